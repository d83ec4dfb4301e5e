"""Names of metrics as people write them."""

METRIC_NAMES = {
    "recall@1": "R@1",
    "recall@2": "R@2",
    "recall@4": "R@4",
    "recall@8": "R@8",
    "map@r": "MAP@R",
    "r_precision": "R-precision",
    "nmi": "NMI",
    "ami": "AMI",
    "f1": "F1",
    "eer": "EER",
    "tar@far=0.001": "TAR@FAR 0.1 %",
    "far@far=0.001": "test FAR (0.1 %)",
    "tar@far=0.01": "TAR@FAR 1 %",
    "far@far=0.01": "test FAR (1 %)",
}
