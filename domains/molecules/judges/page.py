"""Generated molecules as one HTML page: figures beside real ones', drawings, properties, and reasons of refusal."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.core.evaluation.report import Report, picture, table
from ornstein.domains.molecules.judges._samples import Sample, as_samples, present
from ornstein.domains.molecules.judges.figures import molecule_grid, property_histograms
from ornstein.domains.molecules.judges.properties import property_values
from ornstein.domains.molecules.judges.reference import MosesReference
from ornstein.domains.molecules.judges.report import score_rows
from ornstein.domains.molecules.judges.validity import KINDS, check_validity

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["molecule_report"]

KIND_TEXTS = {
    "parse": "sanitised, and its SMILES parse; several components allowed (MOSES, GuacaMol)",
    "largest_fragment": "sanitised; what lies beside the largest fragment is forgotten (DiGress)",
    "relaxed": "as before, after +1 on N, O and S with one bond too many (DiGress)",
    "uncorrected": "of allowed valences after the same charges, and nothing else (GDSS)",
    "strict": "sanitised, connected, no radical, an InChI that reads back (PoseBusters)",
}
TILES = ("unique", "novel", "vun", "filters")


def molecule_report(
    samples: Iterable[Sample],
    judged: Mapping[str, Any],
    path: str | Path,
    *,
    reference: MosesReference | None = None,
    title: str = "Generated molecules",
    shown: int = 24,
) -> Path:
    """Write the page.

    Args:
        samples: those that were judged.
        judged: what `judge_molecules` said of them.
        path: of the HTML file.
        reference: whose properties are drawn behind those of the samples.
        title: of the page.
        shown: how many molecules are drawn, the first valid ones.

    Raises:
        ImportError: rdkit or matplotlib is missing.
        ValueError: samples other than those judged, by their number.
    """
    given = as_samples(samples)
    if len(given) != judged["n"]:
        raise ValueError(f"samples={len(given)}: expected the {judged['n']} that were judged")
    kind = judged["kind"]
    verdicts = check_validity(given)
    valid = present(verdicts[kind].molecules)
    page = Report(
        title,
        f"{judged['n']} samples, of which {judged['n_valid']} are valid of the kind “{kind}”. Figures of real "
        "molecules are of as many drawn from the reference, against its others.",
        footer="Figures depend on the number of molecules and on the kind of validity: compare like with like.",
    )
    page.add_tile(f"{verdicts[kind].fraction:.1%}", f"valid ({kind})")
    for name in TILES:
        if name in judged:
            page.add_tile(f"{judged[name]:.1%}", name)
    for name in [name for name in judged if name.startswith("fcd/")]:
        floor = judged["floors"].get(name)
        page.add_tile(f"{judged[name]:.2f}", name if floor is None else f"{name}, of real ones {floor:.2f}")
    page.add("Figures", "Each beside that of real molecules.", table(("figure", "samples", "real"), score_rows(judged)))
    rows = [
        [name, f"{verdicts[name].fraction:.2%}", f"{KIND_TEXTS[name]}. Refused: {_reasons(verdicts[name].reasons)}"]
        for name in KINDS
    ]
    page.add(
        "Validity",
        "Five definitions in use, on the same samples, and the most frequent reasons of refusal.",
        table(("kind", "valid", "a sample counts if it is"), rows, notes=True),
    )
    if valid:
        drawn = valid[:shown]
        values = property_values(drawn, ("logP", "QED"))
        captions = [f"logP {log_p:.1f}, QED {qed:.2f}" for log_p, qed in zip(values["logP"], values["QED"])]
        grid = molecule_grid(drawn, captions=captions)
        page.add("Molecules", f"The first {len(drawn)} valid ones.", picture(grid, f"{len(drawn)} molecules"))
        page.add(
            "Properties",
            "Of valid molecules, as densities."
            if reference is None
            else f"Of valid molecules, over those of {reference.name}.",
            picture(_histograms(valid, reference), "Histograms of logP, QED, SA score and weight"),
        )
    for name, reasons in judged["reasons"].items():
        if name not in KINDS and reasons:
            counts = [[reason, str(count)] for reason, count in reasons.items()]
            page.add(f"Refused by {name}", "The first reason of each molecule.", table(("reason", "molecules"), counts))
    if judged["left_out"]:
        page.add(
            "Left out",
            "Measures without figures.",
            table(("measure", "why"), list(judged["left_out"].items()), notes=True),
        )
    return page.write(path)


def _histograms(valid: list["Mol"], reference: MosesReference | None) -> bytes:
    return property_histograms(property_values(valid), None if reference is None else reference.properties)


def _reasons(reasons: Mapping[str, int], most: int = 5) -> str:
    """The most frequent ones in one line, and how many others there are."""
    parts = [f"{reason}: {count}" for reason, count in list(reasons.items())[:most]]
    others = sum(list(reasons.values())[most:])
    return "; ".join([*parts, f"others: {others}"] if others else parts) or "none"
