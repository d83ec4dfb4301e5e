"""From a folder of labelled pictures to a served index: train, mine, search over HTTP.

    python examples/from_photos_to_a_served_index.py [FOLDER]

It runs as a script, and as a notebook in editors that know the marks `# %%`. Without FOLDER it
works in a temporary folder. It needs no network: the pictures are drawn here, and the server
listens on loopback only. About half a minute on one core.
"""

# %% Pictures: 24 classes, a folder each, 12 pictures a class. Replace this cell by your own folder.
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="remine-example-"))
SIDE = 32


def draw_shape(class_seed: int, picture_seed: int) -> Image.Image:
    """A polygon that is the same for a class, with corners, place and brightness of the picture."""
    corners = np.random.default_rng(class_seed).uniform(0.15, 0.85, (6, 2))
    variation = np.random.default_rng([class_seed, picture_seed])
    points = (corners + variation.normal(0, 0.03, corners.shape)) * SIDE
    picture = Image.new("L", (SIDE, SIDE), 255)
    ink = int(variation.uniform(0, 120))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in points], outline=ink, width=2)
    return picture


for class_number in range(24):
    class_folder = folder / "photos" / f"shape-{class_number:02}"
    class_folder.mkdir(parents=True, exist_ok=True)
    for picture_number in range(12):
        picture = draw_shape(class_number, picture_number)
        picture.save(class_folder / f"{picture_number:02}.png")
print(f"288 pictures below {folder / 'photos'}")

# %% The config: where the pictures are, where the results go, a short training.
config_file = folder / "photos.toml"
config_file.write_text("""\
[run]
store = "runs/photos"
rounds = 2

[data]
source = "photos"       # one folder a class
image_size = 32         # fit pictures of any size

[encoder]
width = 8               # a small net, for a short example
dimensions = 32

[train]
steps = 40
batch = 32
""")

# %% One cycle: embed, index, evaluate, mine, train, twice. Whole classes are held out for the test.
import subprocess


def command_output(*arguments: str) -> str:
    """What a command of remine prints."""
    command = [sys.executable, "-m", "remine", *arguments, "--config", str(config_file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


print(command_output("run"))

# %% The store's current version is plain files. `history` has a line for each version.
print(command_output("history"))

# %% The same version from Python: triplets and embeddings as tables and arrays.
import remine

version = remine.open(folder / "runs" / "photos")
print(version, "with", version.triplets().num_rows, "triplets of its last round")
print("embeddings:", version.embeddings().vectors.shape)

# %% Serve the index. Port 0 takes a free port; the first line of output has the address.
import atexit
import json
import urllib.request

server = subprocess.Popen(
    [sys.executable, "-m", "remine", "serve", "--port", "0", "--config", str(config_file)],
    stdout=subprocess.PIPE,
    text=True,
)
atexit.register(server.kill)  # also where a later cell fails
address = server.stdout.readline().split(" at ")[1].strip().rstrip("/")
print("serving at", address)

# %% Neighbours of an item of the store, by its id.
with urllib.request.urlopen(f"{address}/search?id=0&k=5") as response:  # noqa: S310
    by_id = json.load(response)
print("neighbours of item 0:", [(n["id"], n["label"]) for n in by_id["neighbours"]])

# %% Neighbours of a new picture that the store does not hold: a multipart upload.
new_file = folder / "new.png"
draw_shape(class_seed=3, picture_seed=1000).save(new_file)
BOUNDARY = "remine-example"
body = (
    f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=file; filename=new.png\r\n"
    "Content-Type: image/png\r\n\r\n"
).encode()
body += new_file.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
upload = urllib.request.Request(  # noqa: S310
    f"{address}/search/image?k=5",
    data=body,
    headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
)
with urllib.request.urlopen(upload) as response:  # noqa: S310
    by_picture = json.load(response)
labels = [neighbour["label"] for neighbour in by_picture["neighbours"]]
print("neighbours of a new picture of shape-03:", labels)

# %% Stop the server. It answers what was asked before, then ends.
server.terminate()
server.wait(timeout=30)
print("the server has stopped")
