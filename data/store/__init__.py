"""The artifact store: immutable files by content hash, published together as numbered versions.

In reading order:

    records       files, artifacts and versions as plain records; seals for JSON files
    store         `Store`: put and read files, receipts of finished work, publish versions

    place         the protocol of a storage location
    folder        a location in a local or network folder
    disk          the file system calls of `folder`, one function each
    read_leases   which processes read which version, by file locks
    bucket        a location in an S3-compatible object store
    lease         the write lock and the readers of a bucket, by conditional puts

    pins          which version is served: the newest, or one that was pinned
    views         a version as a tree of links with plain names
    history       one summary per version
    integrity     checks every file against its hash
    gc            removes old versions and unreferenced files
"""
