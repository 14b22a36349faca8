"""The command ``ornstein``: fit, sample, evaluate, tune-grid, certify, domains and demo.

Domains are found through the registry and named by class paths in configurations; the command knows none of them.
Errors that a user can mend are one line on stderr and exit status 2; ``--debug`` shows where they came from.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from ornstein.core.config import near

__all__ = ["main"]

VERBS = ("fit", "sample", "evaluate", "tune-grid", "certify", "domains", "demo")
USER_ERRORS = (ValueError, TypeError, OSError, ImportError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the arguments given (by default the process's own) and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        if debug:
            raise
        message = " ".join(_said(error).split()) or type(error).__name__
        print(f"ornstein: error: {message}", file=sys.stderr)
        return 2


def _said(error: BaseException) -> str:
    """The message of an error; of one that a data-loading process raised, without the traceback that torch puts in."""
    text = str(error)
    if text.startswith("Caught ") and "Original Traceback" in text:
        return text.strip().splitlines()[-1].partition(": ")[2]
    return text


def _run(arguments: list[str]) -> int:
    parser = _parser()
    if arguments and arguments[0] not in VERBS and not arguments[0].startswith("-"):
        raise ValueError(f"no command {arguments[0]!r}{near(arguments[0], VERBS)}; there are {', '.join(VERBS)}")
    if arguments[:1] == ["fit"]:  # has its own parser: its options are those of the configuration
        return _fit(arguments[1:])
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [name for action in options.parser._actions for name in action.option_strings]
        raise ValueError(f"unknown argument {unknown[0]!r}{near(unknown[0].split('=')[0], known)}; see --help")
    status: int = options.verb(options)
    return status


class _Parser(argparse.ArgumentParser):
    """Raises its errors, so that they are shown as all others are."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ornstein", description="One diffusion core, many domains.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ornstein {version('ornstein')}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verbs.add_parser("fit", help="train a model from a configuration", add_help=False)
    for name, verb, add, text in (
        ("sample", sample, _sample_arguments, "draw samples from a trained model"),
        ("evaluate", evaluate, _evaluate_arguments, "measure samples against held-out data"),
        ("tune-grid", tune_grid, _tuning_arguments, "find times at which a sampler does better"),
        ("certify", certify, _certify_arguments, "measure every method on problems whose solution is known"),
        ("domains", list_domains, None, "list the domains that are installed"),
        ("demo", demo, _demo_arguments, "train, sample and report on data that is at hand"),
    ):
        child = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        if add is not None:
            add(child)
        child.set_defaults(verb=verb, parser=child)
    return parser


def _model_arguments(parser: argparse.ArgumentParser, num: int) -> None:
    parser.add_argument(
        "--checkpoint", metavar="DIR", help="a model or run folder, or a Hub name (default: the newest run)"
    )
    parser.add_argument("--num", type=int, default=num, help=f"number of samples (default {num})")
    parser.add_argument("--seed", type=int, default=0, help="sample i depends on the seed and on i alone (default 0)")
    parser.add_argument("--sampler", metavar="NAME", help="DDIM, Heun, DPMSolver ... (default: the model's)")
    parser.add_argument("--steps", type=int, help="steps of the sampler (default: the sampler's)")
    parser.add_argument("--grid", metavar="FILE", help="times from tune-grid (default: the sampler's grid)")
    parser.add_argument("--guidance", type=float, metavar="SCALE", help="scale of classifier-free guidance")
    parser.add_argument("--label", metavar="N[,N...]", help="class of all samples, or classes in turn")
    parser.add_argument(
        "--condition", action="append", default=[], metavar="NAME=VALUE[,VALUE...]", help="another condition, likewise"
    )


def _drawing_arguments(parser: argparse.ArgumentParser, num: int) -> None:
    _model_arguments(parser, num)
    parser.add_argument("--batch_size", type=int, help="samples at a time and process (default: the domain's)")
    parser.add_argument("--devices", type=int, default=1, help="processes, one a GPU or CPU core (default 1)")


def _sample_arguments(parser: argparse.ArgumentParser) -> None:
    _drawing_arguments(parser, 16)
    parser.add_argument("--output", default="samples", metavar="DIR", help="where the samples go (default samples)")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _drawing_arguments(parser, 1000)
    parser.add_argument("--samples", metavar="PATH", help="samples.npz, or its folder, instead of new samples")
    parser.add_argument("--config", metavar="FILE", help="whose data to compare with (default: the run's config.yaml)")
    parser.add_argument(
        "--output", metavar="FILE", help="the measures as JSON (default: evaluation.json beside the model)"
    )


def _tuning_arguments(parser: argparse.ArgumentParser) -> None:
    _model_arguments(parser, 64)
    parser.add_argument("--criterion", default="distribution", help="distribution, trajectory, bound or align")
    parser.add_argument("--method", default="coordinate", help="coordinate or gradient, for the first two")
    parser.add_argument("--iterations", type=int, default=100, help="greatest number, for the same (default 100)")
    parser.add_argument("--reference", type=int, default=100, metavar="STEPS", help="of the reference (default 100)")
    parser.add_argument("--resolution", type=int, default=100, help="times to choose from, for bound and align")
    parser.add_argument("--config", metavar="FILE", help="tune on this configuration's data, not on the model's own")
    parser.add_argument("--output", default="grid.json", metavar="FILE", help="the grid as JSON (default grid.json)")


def _certify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", metavar="DIR", default="runs/certify", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="a few methods, in less than a minute")


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="images", metavar="NAME", help="the domain (default images)")
    parser.add_argument("--run", default="runs/demo", metavar="DIR", help="where everything goes (default runs/demo)")
    parser.add_argument("--quick", action="store_true", help="a run of seconds, to see that everything works")


# The verbs.


def _fit(arguments: list[str]) -> int:
    from ornstein.core.adapter import DomainAdapter
    from ornstein.core.training.command import fit

    return fit(arguments, DomainAdapter)


def sample(options: argparse.Namespace) -> int:
    """Draw samples; write each to a file, all to ``samples.npz``, and a picture of them to ``samples.png``."""
    import numpy as np

    output = Path(options.output)
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; give a folder for --output")
    if output.is_dir() and any(output.iterdir()) and not options.overwrite:
        raise FileExistsError(f"{output} is not empty; give another --output, or --overwrite")
    adapter, arrays = _draw(options)
    output.mkdir(parents=True, exist_ok=True)
    samples = adapter.unpack(arrays)
    samples = samples["samples"] if isinstance(samples, Mapping) and "samples" in samples else samples
    paths = adapter.write(samples, output)
    np.savez(output / "samples.npz", **arrays)
    adapter.render(samples, output / "samples.png")
    print(f"{len(paths)} samples in {output}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Print the domain's measures of samples against the data's reference, and write them as JSON."""
    from ornstein.core.adapter import DomainAdapter
    from ornstein.core.config import resolve_class

    checkpoint = _checkpoint(options.checkpoint)
    config_file = Path(options.config) if options.config else Path(checkpoint).parent / "config.yaml"
    if not config_file.is_file():
        raise FileNotFoundError(
            f"no configuration {config_file}; name one with --config to say which data to compare with"
        )
    config, data = _data(config_file)
    if options.samples:
        adapter = DomainAdapter.from_pretrained(checkpoint)
        arrays = _read_samples(Path(options.samples))
    else:
        adapter, arrays = _draw(options)
    if "adapter" in config and not isinstance(adapter, resolve_class(config["adapter"].get("class_path", ""))):
        named = config["adapter"]["class_path"]
        raise TypeError(
            f"{checkpoint} holds a {type(adapter).__name__}, {config_file} is for {named}; give matching ones"
        )
    measures = adapter.evaluate(adapter.unpack(arrays), data.reference())
    width = max(map(len, measures))
    for name, value in measures.items():
        print(f"{name:<{width}}  {value:.4g}")
    output = Path(options.output) if options.output else Path(checkpoint).parent / "evaluation.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(measures, indent=2) + "\n", encoding="utf-8")
    return 0


def tune_grid(options: argparse.Namespace) -> int:
    """Tune a sampler's times on a model, write them as JSON for ``--grid``, and print the error before and after."""
    from ornstein.core.adapter import DomainAdapter
    from ornstein.core.config import to_config
    from ornstein.core.grid_search.command import GridTuner
    from ornstein.core.parallel_draws import device_of

    if options.config and (options.label is not None or options.condition):
        raise ValueError("--label or --condition with --config: the data have conditions of their own; leave one out")
    names = ("criterion", "method", "iterations", "reference", "resolution")
    tuner = GridTuner(**{name: getattr(options, name) for name in names})
    adapter = DomainAdapter.from_pretrained(_checkpoint(options.checkpoint)).to(device_of(0)).requires_grad_(False)
    tuned = tuner.tune(
        adapter,
        _sampler(options, adapter.sampler),
        options.num,
        data=_data(Path(options.config))[1] if options.config else None,
        seed=options.seed,
        guidance=options.guidance,
        progress=sys.stderr.isatty(),
        **({} if options.config else _conditions(options, adapter)),
    )
    output = Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(to_config(tuned.grid), indent=2) + "\n", encoding="utf-8")
    print(f"error {tuned.before:.4g} before, {tuned.after:.4g} after; times in {output}")
    return 0


def certify(options: argparse.Namespace) -> int:
    """Certify samplers, likelihoods and posterior methods; the status is 1 if a requirement is not met."""
    from ornstein.core.certify import certify as run

    result = run(options.output, quick=options.quick, say=lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(result))
    return 0 if all(result["passed"].values()) else 1


def list_domains(options: argparse.Namespace) -> int:
    """Print every registered domain, and for one that does not load, why."""
    from ornstein.core.registry import domains

    infos = domains()
    if not infos:
        print("no domains are installed")
        return 0
    widths = [max(len(getattr(info, key)) for info in infos) for key in ("name", "target")]
    for info in infos:
        state = "ready" if info.loads else info.problem
        print(f"{info.name:<{widths[0]}}  {info.target:<{widths[1]}}  {info.distribution} {info.version}  {state}")
    return 0


def demo(options: argparse.Namespace) -> int:
    """Run the demonstration of a domain."""
    from ornstein.core.registry import load_domain

    load_domain(options.name).demo(options.run, quick=options.quick)
    return 0


# What the verbs share.


def _draw(options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The adapter, and its samples with what was asked for, as arrays."""
    from ornstein.core.adapter import DomainAdapter
    from ornstein.core.parallel_draws import draw_arrays

    for name in ("num", "devices"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    checkpoint = _checkpoint(options.checkpoint)
    adapter = DomainAdapter.from_pretrained(checkpoint)
    request = {
        "sampler": _sampler(options, adapter.sampler),
        "seed": options.seed,
        "batch_size": options.batch_size,
        "guidance": options.guidance,
    }
    condition = _conditions(options, adapter)
    arrays = draw_arrays(
        adapter, checkpoint, options.num, options.devices, request, condition, progress=sys.stderr.isatty()
    )
    asked = {name: value.numpy() for name, value in adapter.prepare_condition(options.num, **condition).items()}
    return adapter, arrays | asked


def _sampler(options: argparse.Namespace, default: Any) -> Any:
    import dataclasses

    from ornstein.core import samplers
    from ornstein.core.grids import Times

    chosen = default
    if options.sampler is not None:
        known: dict[str, Callable[[], Any]] = {
            name: value
            for name in samplers.__all__
            if isinstance(value := getattr(samplers, name), type)
            and issubclass(value, samplers.Sampler)
            and not getattr(value, "__abstractmethods__", None)
        }
        if options.sampler not in known:
            raise ValueError(
                f"no sampler {options.sampler!r}{near(options.sampler, known)}; there are {', '.join(known)}"
            )
        chosen = known[options.sampler]()
    if options.grid is not None:
        grid = _grid(Path(options.grid))
        steps = len(grid.values) - 1 if isinstance(grid, Times) else chosen.steps
        chosen = dataclasses.replace(chosen, grid=grid, steps=steps)
    return chosen if options.steps is None else dataclasses.replace(chosen, steps=options.steps)


def _grid(file: Path) -> Any:
    from ornstein.core.config import from_config
    from ornstein.core.grids import Grid

    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no JSON ({error}); make it with 'ornstein tune-grid'") from None
    if not isinstance(tree, Mapping):
        raise ValueError(f"{file} holds no configuration of a grid; make it with 'ornstein tune-grid'")
    return from_config(tree, expected=Grid)


def _data(file: Path) -> tuple[Mapping[str, Any], Any]:
    """A configuration and the data module of its section ``data``."""
    import yaml

    from ornstein.core.config import from_config
    from ornstein.core.training.data import DataModule

    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML: {error}") from None
    if not isinstance(config, Mapping) or "data" not in config:
        raise ValueError(f"{file} has no section 'data'")
    return config, from_config(config["data"], expected=DataModule)


def _conditions(options: argparse.Namespace, adapter: Any) -> dict[str, Any]:
    given = list(options.condition) + ([f"label={options.label}"] if options.label is not None else [])
    if not given:
        return dict(adapter.preview_condition(options.num))
    condition = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not equals or not name.isidentifier() or not values:
            raise ValueError(f"condition {text!r}: expected NAME=VALUE or NAME=VALUE,VALUE,...")
        turn = [_value(value) for value in values.split(",")]
        condition[name] = [turn[i % len(turn)] for i in range(options.num)]
    return condition


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _checkpoint(given: str | None) -> str:
    if given is None:
        models = sorted(Path("runs").glob("*/model/config.json"), key=lambda path: path.stat().st_mtime)
        if not models:
            raise FileNotFoundError(
                "no trained model under runs/; train one with 'ornstein fit', or give --checkpoint DIR"
            )
        return str(models[-1].parent)
    path = Path(given)
    if path.is_file():
        raise ValueError(f"{given} is a file; give the folder of a model, such as RUN/model")
    return str(path / "model") if (path / "model" / "config.json").is_file() else given


def _read_samples(path: Path) -> dict[str, Any]:
    import zipfile

    import numpy as np

    file = path / "samples.npz" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no samples {file}; make some with 'ornstein sample'")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise ValueError(f"{file} is damaged or no .npz file ({error}); make it again with 'ornstein sample'") from None


if __name__ == "__main__":
    sys.exit(main())
