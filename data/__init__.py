"""What items, embeddings, neighbours and triplets are, where they come from and where they lie."""
