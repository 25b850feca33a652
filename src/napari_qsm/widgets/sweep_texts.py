"""Everything the panel of sweeps says that does not come from data or from a method."""

SWEEP = "Sweep"
DEVICE = "Where the sweep runs."
FROM = "Smallest value. Left empty, a tenth of what the form says or the method would choose."
TO = "Largest value. Left empty, ten times what the form says or the method would choose."
AUTO = "auto"
POINTS = "How many values, in equal ratios; each starts from the map of the one before."
METHOD = "The method and its other parameters are those of Reconstruct."
NOTHING_YET = "Sweep to see the curves; click a point to see its map."
NO_PARAMETER = "{} has no parameter to sweep; choose another method."
BUSY = "A reconstruction is running."
STOPPED = "Stopped after {} of {} points."
STOPPED_EARLY = "Cancelled before there was a point."
DONE = "{}: {} points in {}."
KEEP = "Keep this result"
KEEP_TIP = "Add the map of this point to the results, with its residual and how it was made."
EXPORT = "Export CSV…"
EXPORT_TIP = "Save all figures of all points as a table."
CSV = "CSV (*.csv)"
EXPORTED = "Saved the table of the sweep to {}."

L_CURVE, U_CURVE, ERROR, FREQUENCIES = "L-curve", "U-curve", "Error", "Frequencies"
TABS = {
    L_CURVE: "Misfit against roughness: look for the bend, or for where it stops bending.",
    U_CURVE: "Misfit and roughness, each over itself: look for the valley.",
    ERROR: "Distance from the reference χ chosen in Reconstruct.",
    FREQUENCIES: "Amplitude of χ in k-space by how well the field knows it: look for balance.",
}
NO_REFERENCE = "Choose a reference χ in Reconstruct and sweep again to see the error."
RESIDUAL = "residual |W(Dχ − f)|"
VARIATION = "roughness |∇χ|₁"
GRADIENT = "roughness |∇χ|₂"
U = "1/residual + 1/roughness (relative)"
NRMSE = "NRMSE"
AMPLITUDE = "mean |χ̂| (relative to the shell)"
REGIONS = ("|D| ≤ 0.08", "|D| 0.1–0.2", "|D| 0.22–0.32")
NO_MARK = "No value stands out in this range."
