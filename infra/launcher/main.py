"""What the Flex Template starts: the compress pipeline, with the template's parameters as flags."""

import logging
import sys
from argparse import ArgumentParser
from functools import partial

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.compress import CompressJob, begin, check_settings, compress, new_run
from pipeline.runners.dataflow import choose_dataflow_options
from pipeline.runners.run import choose_execution, run
from transforms.find import find_source, with_inventory
from transforms.storage.files import OUTPUT_FOLDERS, writing_to


def parser() -> ArgumentParser:
    """Reads the parameters in infra/template/metadata.json; those that Beam knows are left to Beam."""
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--inventory")
    parser.add_argument("--target_ms_ssim", type=float)
    parser.add_argument("--max_bpp", type=float)
    parser.add_argument("--iterations", type=int)
    return parser


def main(arguments: list[str]) -> None:
    """Submits the job. The launcher asks for a template, so nothing waits for the job to end.

    Raises:
        ValueError: a setting out of its range, several of them, or an option missing; --inventory is none, or
            --input no prefix.
        OSError: nothing is at --input or --inventory, or --output cannot be written.
    """
    own, beam_arguments = parser().parse_known_args(arguments)
    settings = check_settings(own.target_ms_ssim, own.max_bpp, own.iterations)
    options = PipelineOptions(beam_arguments)
    choose_dataflow_options(options)
    with writing_to(own.output, OUTPUT_FOLDERS):
        source = find_source(own.input)
        if own.inventory is not None:
            source = with_inventory(source, own.inventory)
        job = CompressJob(source, own.output, settings, new_run(settings))
        begin(job)
        run(partial(compress, job), choose_execution(options, "auto"), options)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main(sys.argv[1:])
