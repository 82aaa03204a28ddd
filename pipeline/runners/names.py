"""Which runner Beam's options name."""

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions


def runner_name(options: PipelineOptions) -> str:
    """The runner's name as Beam reads it, in any case and with or without "Runner": "dataflow", for one."""
    name = options.view_as(StandardOptions).runner or StandardOptions.DEFAULT_RUNNER
    return name.rpartition(".")[2].lower().removesuffix("runner")


def is_local(options: PipelineOptions) -> bool:
    return runner_name(options) in ("direct", "fnapi")


def is_dataflow(options: PipelineOptions) -> bool:
    return runner_name(options) == "dataflow"
