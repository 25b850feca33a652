"""Everything the panel that adapts networks says that does not come from data or from a method."""

from napari_qsm.methods.direct import DISCLAIMER
from napari_qsm.workbench.adapting import FIGURES, Adaptation

ADAPT = "Adapt to this patient"
OTHERS = "The input was changed between the two, so these figures do not belong together."
TABLE_TIP = (
    "".join(f"<p><b>{name}:</b> {said}</p>" for name, said in FIGURES.values())
    + f"<p>{DISCLAIMER}</p>"
)


def tip(plan: Adaptation) -> str:
    """Say what adapting does."""
    return (
        f"<p>Bring the weights '{plan.card.key}' to the field of this patient, without labels: "
        f"{plan.after.method.label}, as it is set, changes a copy of them that is gone afterwards. "
        "The map of the network as it was trained comes first, so that both can be compared.</p>"
    )
