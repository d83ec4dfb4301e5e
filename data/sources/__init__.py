"""Readers of users' data.

In reading order:

    source        the protocol of a source of items, and `open_source`, which chooses the reader
    table         Parquet and CSV as a source of items
    csv_table     the reader of CSV files
    csv_quotes    quoted fields that span lines; stray quotes
    parquet_table Parquet files as one table; column_types: the type that their columns share
    table_folder  which files of a folder are read; columns in names of folders (label=cat/)
    hugging_face  names of classes and paths of pictures in Parquet of Hugging Face data sets
    splits        other names of the validation split
    picture_formats  formats of pictures, and what reads the others
    extra_columns  the user's other columns of a table
    image_folder  one folder of images per class
    keys          ids that are texts, and their search
    labels        the form of a label; a file of labels
    array         an .npy file of vectors with labels beside it; .npy and vector column helpers
    glyphs        the built-in data set: characters drawn with matplotlib's typefaces

    vectors       embeddings computed elsewhere, for `remine mine` (no items and no store)
"""
