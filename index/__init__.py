"""Items to embeddings, embeddings to a FAISS index, queries to neighbours; how good they are."""
