"""Everything the panel that adapts networks says that does not come from data or from a method."""

from napari_qsm.methods.direct import DISCLAIMER
from napari_qsm.workbench.adapting import FIGURES, Adaptation

ADAPT = "Adapt to this patient"
TIP = (
    "<p>Bring the network to the field of this patient, without labels: {} changes a copy of its "
    "weights, which is gone afterwards. The map of the network as it was trained comes first, so "
    "that both can be compared.</p>"
)
WHAT = "{} adapts the weights '{}', with its own settings."
FIRST = "Making the map of the network as it was trained …"
SECOND = "Adapting the network …"
OTHERS = "The input was changed between the two, so these figures do not belong together."
TABLE_TIP = (
    "".join(f"<p><b>{name}:</b> {said}</p>" for name, said in FIGURES.values())
    + f"<p>{DISCLAIMER}</p>"
)


def what(plan: Adaptation) -> str:
    """Say what adapting does."""
    return WHAT.format(plan.after.method.label, plan.card.key)
