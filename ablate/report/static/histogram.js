// Of each arm, the share of its steps by the size of their gradient norm.
function drawHistogram(element) {
  const { edges, arms } = data.histogram, styleOf = new Map(data.arms.map((arm) => [arm.name, arm]));
  const ordered = arms.filter((one) => !state.hidden.has(one.name)).reverse(), traces = [];
  for (const one of ordered) {
    const arm = styleOf.get(one.name), hex = color("--" + arm.style);
    traces.push(named(arm, {
      x: edges, y: [...one.share, 0].map((share) => 100 * share), line: { shape: "hv", color: hex, width: 1.8, dash: arm.style === "placebo" ? "dot" : arm.dash },
      fill: "tozeroy", fillcolor: faded(hex, 0.12), hovertemplate: "%{y:.3g}% of the steps",
    }));
  }
  const made = layout("gradient norm before clipping (L2)", "% of the steps", { logX: true });
  made.xaxis.dtick = "D2";
  return Plotly.react(element, traces, made, config);
}
