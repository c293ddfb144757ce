// One outcome: a row per change, with its mean difference, its interval and the difference of every seed.
function drawForest(element) {
  const outcome = data.forest.find((one) => one.name === state.outcome), rows = [...outcome.rows].reverse();
  const styleOf = new Map(data.arms.map((arm) => [arm.name, color("--" + arm.style)])), soft = color("--soft");
  const hex = (row) => styleOf.get(row.arm) || soft;
  const traces = rows.map((row, y) => ({
    type: "scatter", mode: "markers", meta: row.arm, name: literal(row.change), x: row.differences, y: row.differences.map(() => y),
    marker: { color: faded(hex(row), 0.55), size: 9, line: { width: 1, color: color("--paper") } },
    text: row.seeds.map((seed) => "seed " + seed), hovertemplate: "%{x:.4g} (%{text})<extra></extra>",
  }));
  rows.forEach((row, y) => {
    const half = row.low === null ? {} : { error_x: {
      type: "data", symmetric: false, array: [row.high - row.effect], arrayminus: [row.effect - row.low], thickness: 2.4, width: 0, color: hex(row),
    } };
    traces.push({
      type: "scatter", mode: "markers", meta: row.arm, name: literal(row.change), x: [row.effect], y: [y], ...half,
      marker: { symbol: "line-ns-open", size: 18, color: hex(row), line: { width: 3 } },
      hovertemplate: `${figure(row.effect)} [${figure(row.low)}, ${figure(row.high)}], ${literal(row.verdict)}<extra></extra>`,
    });
  });
  const made = layout(`difference from the baseline${outcome.unit ? ", " + outcome.unit : ""}`, "", { revision: outcome.name });
  made.hovermode = "closest";
  made.margin.l = 8;
  delete made.xaxis.rangemode;
  made.height = 90 + 46 * rows.length;
  made.yaxis = {
    ...made.yaxis, automargin: true, title: undefined, tickvals: rows.map((_, y) => y), ticktext: rows.map((row) => wrapped(row.change)), showgrid: false,
    range: [-0.6, rows.length - 0.4], fixedrange: true, tickfont: { size: 13, color: color("--ink") },
  };
  const strip = { type: "rect", yref: "paper", y0: 0, y1: 1, line: { width: 0 }, fillcolor: color("--band"), layer: "below" };
  made.shapes = [
    ...(outcome.smallest ? [{ ...strip, x0: -outcome.smallest, x1: outcome.smallest }] : []),
    { type: "line", yref: "paper", y0: 0, y1: 1, x0: 0, x1: 0, line: { color: soft, width: 1, dash: "dash" }, layer: "below" },
  ];
  element.style.height = made.height + "px";
  return Plotly.react(element, traces, made, config);
}

// A long name in several lines, so that the picture keeps its room.
function wrapped(text) {
  const narrow = window.innerWidth < 760 ? 18 : 34, lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length && lines.at(-1).length + word.length > narrow) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines.map(literal).join("<br>");
}
