"""Search: the nearest negatives of anchors within windows of distance.

In reading order:

    windows         what is searched, and the matches
    slack           how far a cheap product may be from the exact score, proven
    scan            exact search on the processor, in blocks
    scan_kernels    its compiled inner loops
    gpu_scan        the same search on a GPU
    list_join       approximate search by lists of k-means
    processor       what the hardware multiplies fast
"""
