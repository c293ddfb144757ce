// What the reader has chosen. Every change redraws what depends on it.
const state = {
  unit: "samples",
  logX: false,
  hidden: new Set(),
  log: new Set(["grad_norm"]),
  smoothing: data.window,
  cadence: {
    eval: { spacing: "even", level: 0 },
    log: { spacing: "even", level: 0, curve: "loss", how: "mean" },
  },
  onPaper: false,
};
// The baseline is what every other arm is compared with: always there.
const shown = () => data.arms.filter((arm) => !state.hidden.has(arm.name));
