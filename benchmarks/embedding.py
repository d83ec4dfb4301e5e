"""The embed stage against a bare torch loop: same encoder, same batches, same inputs."""

import torch

from benchmarks.common import fresh_run, in_turns, show
from remine.data.items.inputs import Inputs
from remine.flows.jobs.beam import beam_execute
from remine.flows.stages import encoder as encoder_stage
from remine.flows.stages.embed import embed
from remine.flows.stages.encoder import load_checkpoint

REPEATS = 5


def main() -> None:
    """Embed the demo's 30,373 glyphs."""
    with fresh_run(execute=beam_execute("FnApiRunner", [])) as (run, config, (items, inputs)):
        checkpoint = encoder_stage.first_checkpoint(run, items, inputs)
        encoder = load_checkpoint(run.store, checkpoint)
        all_inputs = torch.from_numpy(Inputs(run.store.paths(inputs))[range_of(inputs.rows)])

        def bare() -> None:
            with torch.inference_mode():
                for start in range(0, len(all_inputs), config.index.batch):
                    encoder(all_inputs[start : start + config.index.batch])

        def pipeline() -> None:
            for receipt in (run.store.root / "receipts").iterdir():
                if "embeddings" in receipt.read_text():
                    receipt.unlink()
            embed(run, checkpoint, items, inputs)

        bare()
        pipeline()
        timings = in_turns({"bare": bare, "pipeline": pipeline}, REPEATS)
    rate = {name: f"{inputs.rows / value:,.0f}" for name, value in timings.items()}
    show(
        f"Embedding {inputs.rows:,} glyphs, batch {config.index.batch}",
        [
            ["", "items a second", "of the bare loop"],
            ["bare torch loop", rate["bare"], "1.00"],
            ["embed stage", rate["pipeline"], f"{timings['bare'] / timings['pipeline']:.2f}"],
        ],
    )


def range_of(rows: int):  # noqa: ANN201
    """All row numbers."""
    import numpy as np

    return np.arange(rows)


if __name__ == "__main__":
    main()
