"""The encoder of a version as a folder that other libraries load.

In reading order:

    checkpoint_export    the targets, and the parts of an encoder
    transformer_folders  sentence-transformers and transformers
    graphs               torch.export and ONNX
    model_card           README.md of the folder
"""
