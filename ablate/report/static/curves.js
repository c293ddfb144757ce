// Eval loss, gradient norm and training loss: every seed thin, the mean over seeds bold, and a band from the lowest seed to the highest.
const mostPoints = 7000; // of all thin lines of a panel together; more of them cost a slider its quickness
const mostLines = 40; // runs that are drawn one by one; of more, the extremes of an arm's seeds
const mostBold = 2400; // of all bold lines and edges of bands
const mostMarks = 600;

// All seeds of an arm as one line with gaps; thinned, because a screen has no more room, without losing a spike.
function seedLine(arm, panel) {
  return cached(arm, "seeds-" + panel, () => {
    const all = data.arms.reduce((count, one) => count + one.runs.length, 0);
    if (all > mostLines) return extremes(arm, panel);
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

// For an arm with very many runs: the lowest and the highest of all its seeds in each of 120 stretches, as one line.
function extremes(arm, panel) {
  const last = Math.max(1, ...arm.runs.map((run) => run.steps)), count = Math.min(120, last);
  const low = new Array(count).fill(null), high = new Array(count).fill(null);
  for (const run of arm.runs) {
    const ends = panel === "eval_loss" ? run.eval.steps : rowEnds(run);
    const values = panel === "eval_loss" ? run.eval.y : column(run, panel, "max");
    for (let i = 0; i < ends.length; i++) {
      const value = values[i], at = Math.min(count - 1, Math.floor((ends[i] / last) * count));
      if (value === null || !Number.isFinite(value)) continue;
      if (low[at] === null || value < low[at].value) low[at] = { value, run, step: ends[i] };
      if (high[at] === null || value > high[at].value) high[at] = { value, run, step: ends[i] };
    }
  }
  const points = low.flatMap((one, at) => (one ? [one, high[at]].sort((a, b) => a.step - b.step) : []));
  return { runs: points.map((one) => one.run), steps: points.map((one) => one.step), y: points.map((one) => one.value) };
}

const position = (line) => line.steps.map((step, i) => (step === null ? null : along(line.runs[i], state.unit, step)));

// Spikes, by the definition of the metric grad_norm_spikes; the highest of them where there are very many.
function spikeMarks(arm) {
  return cached(arm, "marks", () => {
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
      x: position(line), y: line.y, connectgaps: false, hoverinfo: "skip", hovertemplate: undefined, legendgroup: "seeds",
      line: { color: faded(color("--" + arm.style), alpha), width: 1, simplify: true },
    }));
  }
  for (const arm of ordered) traces.push(...meanTraces(arm, panel));
  if (panel === "grad_norm") traces.push(spikeTrace(ordered));
  return traces;
}

function meanTraces(arm, panel) {
  const curve = panel === "eval_loss" ? evalMean(arm) : smoothed(arm, panel, state.smoothing);
  if (!curve.steps.length) return [];
  const most = Math.min(300, Math.max(40, Math.floor(mostBold / data.arms.length / 3)));
  const all = [curve.y, curve.low, curve.high].map((values) => thin(values, most));
  const at = [...new Set(all.flat())].sort((a, b) => a - b);
  const x = at.map((i) => alongAll(curve.runs, state.unit, curve.steps[i])), hex = color("--" + arm.style);
  const pick = (values) => at.map((i) => (Number.isFinite(values[i]) ? values[i] : null));
  const traces = [];
  if (curve.runs.length > 1) {
    const low = pick(curve.low), high = pick(curve.high), there = at.map((_, i) => i).filter((i) => low[i] !== null && high[i] !== null);
    const back = [...there].reverse();
    traces.push(named(arm, {
      x: [...there.map((i) => x[i]), ...back.map((i) => x[i])], y: [...there.map((i) => high[i]), ...back.map((i) => low[i])],
      fill: "toself", fillcolor: faded(hex, 0.16), line: { width: 0 }, hoverinfo: "skip", hovertemplate: undefined, legendgroup: "band",
    }));
  }
  const dash = arm.style === "placebo" ? "dot" : arm.dash;
  const marks = panel === "eval_loss" && at.length <= 60 ? { mode: "lines+markers", marker: { size: 5 } } : {};
  traces.push(named(arm, { x, y: pick(curve.y), legendgroup: "mean", line: { color: hex, width: 2.2, dash }, ...marks }));
  return traces;
}

function spikeTrace(arms) {
  const marks = arms.flatMap((arm) => spikeMarks(arm).map((mark) => ({ arm, ...mark })));
  const colors = new Map(arms.map((arm) => [arm, color("--" + arm.style)]));
  return {
    type: "scatter", mode: "markers", name: "spike", legendgroup: "spikes", meta: marks.map((mark) => mark.arm.name),
    x: marks.map((mark) => along(mark.run, state.unit, mark.step)), y: marks.map((mark) => mark.y),
    marker: { symbol: "triangle-down-open", size: 8, color: marks.map((mark) => colors.get(mark.arm)), line: { width: 1.5 } },
    text: marks.map((mark) => `${literal(mark.arm.change)}, seed ${mark.run.seed}, step ${mark.step}`), hovertemplate: "%{y:.4g} (%{text})",
  };
}

// The norm to which an arm's gradients are clipped; a line for each that the arms shown have.
function limits(arms) {
  const found = new Map(arms.filter((arm) => arm.limit !== null).map((arm) => [arm.limit, color("--soft")]));
  return [...found].map(([limit, hex]) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: limit, y1: limit, line: { color: hex, width: 1.4, dash: "dash" } }));
}

// The name of every arm at the end of its mean, moved apart where two would touch. The range of the axis is given for that.
function labels(element, traces, made, log) {
  const means = traces.filter((trace) => trace.legendgroup === "mean"), scaled = (value) => (log ? Math.log10(value) : value);
  const usable = (value) => Number.isFinite(value) && value !== null && (!log || value > 0);
  const values = traces.flatMap((trace) => trace.y).filter(usable).map(scaled);
  if (!means.length || !values.length) return;
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b)), pad = 0.05 * (high - low || 1);
  const gap = (15 * (high - low + 2 * pad)) / Math.max(60, element.clientHeight - made.margin.t - made.margin.b);
  const narrow = element.clientWidth < 500 ? 14 : 24;
  const ends = means.map((trace) => {
    const y = trace.y.filter(usable).at(-1);
    const name = data.arms.find((arm) => arm.name === trace.meta).change;
    return { trace, y: y === undefined ? low : scaled(y), text: literal(name.length > narrow ? name.slice(0, narrow - 1) + "…" : name) };
  }).sort((a, b) => a.y - b.y);
  for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + gap);
  const over = ends.at(-1).y - (high + pad);
  if (over > 0) for (let i = ends.length - 1, most = high + pad; i >= 0 && ends[i].y > most; i--, most -= gap) ends[i].y = most;
  made.yaxis.range = [low - pad, high + pad];
  made.margin.r = 7 * Math.min(narrow, Math.max(...ends.map(({ text }) => text.length))) + 10;
  made.annotations = ends.map(({ trace, y, text }) => ({
    text, xref: "paper", x: 1, xanchor: "left", xshift: 4, y, yanchor: "middle", showarrow: false,
    font: { size: 12, color: trace.line.color },
  }));
}

const mostLabels = 12; // of more arms, the buttons above the curves tell the colours
function drawPanel(element) {
  const panel = element.dataset.panel, log = state.log.has(panel);
  const made = layout(state.unit, unitOf[panel], { log, logX: state.logX, revision: state.unit + state.logX + log });
  const traces = panelTraces(panel);
  if (panel === "grad_norm") made.shapes = limits(shown());
  if (shown().length <= mostLabels) labels(element, traces, made, log);
  return Plotly.react(element, traces, made, config);
}
