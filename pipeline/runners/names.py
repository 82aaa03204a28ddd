"""Which runner Beam's options name, and which one will not do."""

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions


def runner_name(options: PipelineOptions) -> str:
    """The runner's name as Beam reads it, in any case and with or without "Runner": "dataflow", for one."""
    name = options.view_as(StandardOptions).runner or StandardOptions.DEFAULT_RUNNER
    return name.rpartition(".")[2].lower().removesuffix("runner")


def is_local(options: PipelineOptions) -> bool:
    return runner_name(options) in ("direct", "fnapi")


def check_runner(options: PipelineOptions) -> None:
    """Refuses a runner on which photos would vanish, while the job succeeds.

    Beam's (2.77) for Dask takes a bundle's results before it calls `finish_bundle` and drops what that emits:
    here the last photos of each bundle. See `apply_dofn_to_bundle` in its transform_evaluator.py.

    Raises:
        ValueError: saying so.
    """
    if runner_name(options) == "dask":
        raise ValueError("Beam's DaskRunner drops what a bundle emits at its end: photos would vanish")


def is_dataflow(options: PipelineOptions) -> bool:
    return runner_name(options) == "dataflow"


def has_job_server(options: PipelineOptions) -> bool:
    """Whether Beam hands the job to a job server, which may know more options than Beam's Python does."""
    return not is_local(options) and not is_dataflow(options)
