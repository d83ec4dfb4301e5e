"""How metrics are called where people read them."""

NAMES = {
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
    "far@far=0.001": "its FAR on test",
    "tar@far=0.01": "TAR@FAR 1 %",
    "far@far=0.01": "its FAR on test",
}
