// The levels of the observation axes of the study, over the dense curve that they are read from.
const levelColors = ["--v3", "--v5", "--v4", "--v6"];

function drawReplay(element) {
  const replay = data.replays.find((item) => item.axis === element.dataset.replay), baseline = data.arms[0];
  const dense = replay.curve === "eval_loss" ? evalMean(baseline) : smoothed(baseline, "loss", 1), hex = color("--baseline");
  const at = thin(dense.y, 600), runs = finished(baseline);
  const traces = [named(baseline, {
    name: "as recorded", x: at.map((i) => alongAll(dense.runs, "samples", dense.steps[i])), y: at.map((i) => dense.y[i]),
    line: { color: faded(hex, 0.6), width: 1.4 },
  })];
  replay.levels.forEach((level, index) => {
    traces.push(named(baseline, {
      name: literal("every " + level.name), x: level.steps.map((step) => alongAll(runs, "samples", step)), y: level.y,
      mode: "lines+markers", marker: { size: 8, symbol: ["circle", "square", "diamond", "cross"][index % 4] },
      line: { color: color(levelColors[index % 4]), width: 2.4 },
    }));
  });
  return Plotly.react(element, traces, layout("samples", unitOf[replay.curve]), config);
}
