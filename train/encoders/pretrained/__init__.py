"""Networks that other libraries load: sentence-transformers, transformers, timm, torchvision, ...

In reading order:

    network            what remine needs to know of one, and the libraries by name
    model_files        folders and hub names; the hash that identifies a model
    tokens             texts to token numbers, and the network over them
    pictures           pictures to the pixels that a network asks for
    sentence_models    st:PATH
    transformer_models hf:PATH
    picture_libraries  timm, torchvision, open_clip

The libraries are imported when such a network is used, never before.
"""
