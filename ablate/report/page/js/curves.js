// Gradient norm, eval loss and training loss: every seed thin, the mean over seeds bold, and a band from the lowest seed to the highest.
const mostPoints = 12000; // of all thin lines of a panel together
const mostMarks = 1500;

// All seeds of an arm as one line with gaps; thinned, because a screen has no more room, with every spike kept.
function seedLine(arm, panel) {
  return kept(arm, "seeds-" + panel, () => {
    const all = data.arms.reduce((count, one) => count + one.runs.length, 0);
    const most = Math.min(1500, Math.max(60, Math.floor(mostPoints / Math.max(1, all))));
    const runs = [], steps = [], y = [];
    for (const run of arm.runs) {
      const ends = panel === "eval_loss" ? run.eval.steps : rowEnds(run);
      const values = panel === "eval_loss" ? run.eval.y : column(run, panel, "max");
      for (const i of thin(values, most)) {
        const value = values[i], gap = value === null || !Number.isFinite(value);
        if (gap && run.gaps) continue;
        runs.push(run); steps.push(ends[i]); y.push(gap ? null : value);
      }
      runs.push(run); steps.push(null); y.push(null);
    }
    return { runs, steps, y };
  });
}

const place = (line) => line.steps.map((step, i) => (step === null ? null : along(line.runs[i], state.unit, step)));

// Spikes, by the definition of the outcome grad_norm_spikes; the highest of them where there are very many.
function spikeMarks(arm) {
  return kept(arm, "marks", () => {
    const marks = arm.runs.flatMap((run) => {
      const ends = rowEnds(run), values = column(run, "grad_norm", "max");
      return run.spikes.map((step) => {
        let low = 0, high = ends.length - 1;
        while (low < high) { const middle = (low + high) >> 1; if (ends[middle] < step) low = middle + 1; else high = middle; }
        return { run, step, y: values[low] };
      });
    });
    return marks.sort((a, b) => b.y - a.y).slice(0, Math.ceil(mostMarks / data.arms.length));
  });
}

function panelTraces(panel) {
  const ordered = [...shown()].reverse(), traces = [];
  for (const arm of ordered) {
    const line = seedLine(arm, panel), several = finished(arm).length > 0;
    const alpha = several ? (panel === "grad_norm" ? 0.4 : 0.28) : 0.9;
    traces.push(named(arm, {
      x: place(line), y: line.y, connectgaps: false, hoverinfo: "skip", hovertemplate: undefined, legendgroup: "seeds",
      line: { color: faded(color("--" + arm.style), alpha), width: 1, simplify: true },
    }));
  }
  for (const arm of ordered) traces.push(...meanTraces(arm, panel));
  if (panel === "grad_norm") for (const arm of ordered) traces.push(spikeTrace(arm));
  return traces;
}

function meanTraces(arm, panel) {
  const curve = panel === "eval_loss" ? evalMean(arm) : smoothed(arm, panel, state.smoothing);
  if (!curve.steps.length) return [];
  const all = [curve.y, curve.low, curve.high].map((values) => thin(values, 400));
  const at = [...new Set(all.flat())].sort((a, b) => a - b);
  const x = at.map((i) => alongAll(curve.runs, state.unit, curve.steps[i])), hex = color("--" + arm.style);
  const pick = (values) => at.map((i) => (Number.isFinite(values[i]) ? values[i] : null));
  const traces = [];
  if (curve.runs.length > 1) {
    const edge = { hoverinfo: "skip", hovertemplate: undefined, line: { width: 0 }, legendgroup: "band" };
    traces.push(named(arm, { x, y: pick(curve.low), ...edge }));
    traces.push(named(arm, { x, y: pick(curve.high), ...edge, fill: "tonexty", fillcolor: faded(hex, 0.16) }));
  }
  const dash = arm.style === "placebo" ? "dot" : arm.dash;
  const marks = panel === "eval_loss" && at.length <= 60 ? { mode: "lines+markers", marker: { size: 5 } } : {};
  traces.push(named(arm, { x, y: pick(curve.y), legendgroup: "mean", line: { color: hex, width: 2.2, dash }, ...marks }));
  return traces;
}

function spikeTrace(arm) {
  const marks = spikeMarks(arm);
  return named(arm, {
    mode: "markers", legendgroup: "spikes", x: marks.map((mark) => along(mark.run, state.unit, mark.step)), y: marks.map((mark) => mark.y),
    marker: { symbol: "triangle-down-open", size: 8, color: color("--" + arm.style), line: { width: 1.5 } },
    text: marks.map((mark) => "seed " + mark.run.seed + ", step " + mark.step), hovertemplate: "spike %{y:.4g} (%{text})",
  });
}

// Below the gradient norm, a row per arm: how many of the steps in each stretch were clipped.
const mostStretches = 160;
function clippedRow(arm) {
  return kept(arm, "clippedRow", () => {
    const last = Math.max(1, ...arm.runs.map((run) => run.steps)), stretches = Math.min(mostStretches, last);
    const counts = new Float64Array(stretches), steps = new Float64Array(stretches);
    const of = (step) => Math.min(stretches - 1, Math.floor(((step - 1) / last) * stretches));
    for (const run of arm.runs) {
      for (let step = 1; step <= run.steps; step++) steps[of(step)]++;
      for (const step of flagged(run.clipped)) counts[of(step)]++;
    }
    const edges = Array.from({ length: stretches + 1 }, (_, i) => (i * last) / stretches);
    return { edges, share: Array.from(counts, (count, i) => (steps[i] ? count / steps[i] : null)), any: counts.some((count) => count > 0) };
  });
}

function clippedTraces() {
  const arms = [...shown()].reverse();
  if (!arms.some((arm) => clippedRow(arm).any)) return [];
  return arms.map((arm, row) => {
    const { edges, share } = clippedRow(arm), hex = color("--" + arm.style), runs = arm.runs;
    return {
      type: "heatmap", meta: arm.name, name: literal(arm.change), yaxis: "y2", x: edges.map((step) => alongAll(runs, state.unit, step)),
      y: [row, row + 0.8], z: [share], zmin: 0, zmax: 1, showscale: false, hoverinfo: "skip",
      colorscale: [[0, faded(hex, 0)], [1, faded(hex, 1)]], legendgroup: "clipped",
    };
  });
}

function drawPanel(element) {
  const panel = element.dataset.panel, log = state.log.has(panel);
  const made = layout(state.unit, unitOf[panel], { log, logX: state.logX, revision: state.unit + state.logX + log });
  const traces = panelTraces(panel), clipped = panel === "grad_norm" ? clippedTraces() : [];
  if (clipped.length) {
    const height = Math.min(0.3, 0.035 * clipped.length);
    made.yaxis.domain = [height + 0.04, 1];
    made.xaxis.anchor = "y2";
    made.yaxis2 = { domain: [0, height], visible: false, fixedrange: true, range: [0, clipped.length] };
    made.annotations = [{
      text: "clipped", xref: "paper", yref: "paper", x: 0, y: height / 2, xanchor: "right", xshift: -6, showarrow: false,
      font: { size: 11, color: color("--soft") },
    }];
  }
  return Plotly.react(element, [...traces, ...clipped], made, config);
}
