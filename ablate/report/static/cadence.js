// What a run would have shown at another cadence, computed from its record: the same points, rows and decrease before the first
// evaluation as ablate/analysis/resample.py. Tests compare the two.

// Samples after which an arm is evaluated, or writes a row, at whole steps; increasing.
function dueAt(arm, { spacing, every, count }) {
  const points = [];
  if (spacing === "log") {
    const first = Math.min(arm.per_step, arm.total), ratio = arm.total / first;
    for (let k = 0; k < count; k++)
      points.push(Math.max(1, Math.round(count > 1 ? first * Math.pow(ratio, k / (count - 1)) : arm.total)));
  } else {
    for (let point = every; point < arm.total; point += every) points.push(point);
  }
  points.push(arm.total);
  const whole = points.map((point) => Math.min(Math.ceil(point / arm.per_step) * arm.per_step, arm.total));
  return [...new Set(whole)].sort((a, b) => a - b);
}

// The eval loss at those evaluations. An even cadence is shown only where every evaluation of it is on record; log-spaced evaluations are the
// recorded ones nearest to them. The evaluation before training stays, since every run has it; it is not the first evaluation.
function evaluationsAt(run, due, spacing) {
  const { samples, steps, y } = run.eval, at = new Map(samples.map((count, i) => [count, i]));
  const trained = samples.filter((count) => count > 0);
  const wanted = spacing === "log" && trained.length ? [...new Set(due.map((point) => (at.has(point) ? point : trained[nearest(trained, point)])))] : due;
  if (!wanted.length || wanted.some((point) => !at.has(point))) return null;
  const indices = wanted.map((point) => at.get(point)), before = steps[0] === 0;
  const start = y[0], lowest = Math.min(...y.map((value) => (value === null ? Infinity : value)));
  return {
    first: steps[indices[0]], evaluations: indices.length,
    steps: [...(before ? [0] : []), ...indices.map((i) => steps[i])], y: [...(before ? [start] : []), ...indices.map((i) => y[i])],
    share: before && start > lowest ? (start - y[indices[0]]) / (start - lowest) : null,
  };
}

// Rows of a log: of the steps since the row before, the mean or the highest, or the last step's own value.
function rowsAt(run, due, curve, how) {
  const ends = rowEnds(run), values = column(run, curve, how), steps = [], y = [];
  const samples = cached(run, "samples", () => Float64Array.from(ends, (end) => along(run, "samples", end)));
  let start = 0;
  for (const point of due) {
    if (start >= ends.length) break;
    let end = start, high = ends.length - 1;
    while (end < high) { const middle = (end + high) >> 1; if (samples[middle] < point) end = middle + 1; else high = middle; }
    steps.push(ends[end]);
    y.push(how === "last" ? values[end] : how === "max" ? highest(values, start, end) : weighted(values, ends, start, end));
    start = end + 1;
  }
  const fallen = run.fallen && run.fallen.find(([step]) => step >= steps[0]);
  const all = column(run, curve, "max"), most = cached(run, "peak-" + curve, () => highest(all, 0, all.length - 1));
  return {
    first: steps[0], evaluations: steps.length, steps, y, share: curve === "loss" && fallen ? fallen[1] : null,
    peak: highest(y, 0, y.length - 1) / most,
  };
}

function highest(values, start, end) {
  let high = -Infinity;
  for (let i = start; i <= end; i++) if (values[i] > high) high = values[i];
  return high;
}

function weighted(values, ends, start, end) {
  let sum = 0, before = start ? ends[start - 1] : 0;
  const first = before;
  for (let i = start; i <= end; i++) { sum += values[i] * (ends[i] - before); before = ends[i]; }
  return sum / (before - first);
}

// {curve, first, evaluations, share, peak} of an arm: its mean over seeds; null where its record does not have these evaluations.
function reread(arm, which, spec) {
  const due = dueAt(arm, spec);
  const runs = finished(arm).filter((run) => (which === "eval" ? run.eval.steps.length : !run.gaps));
  const read = runs.map((run) => (which === "eval" ? evaluationsAt(run, due, spec.spacing) : rowsAt(run, due, spec.curve, spec.how)));
  if (!read.length || read.some((one) => one === null)) return null;
  const length = Math.min(...read.map((one) => one.steps.length));
  const y = Array.from({ length }, (_, i) => mean(read.map((one) => one.y[i])));
  const shares = read.map((one) => one.share).filter((share) => share !== null);
  const peaks = read.map((one) => one.peak).filter(Number.isFinite);
  return {
    runs, steps: read[0].steps.slice(0, length), y, first: read[0].first, evaluations: read[0].evaluations, share: mean(shares), peak: mean(peaks),
  };
}

// Positions of a slider. Even evaluations: intervals that the baseline's record can show exactly, in samples. Rows: multiples of
// the baseline's step. Log-spaced: how many evaluations or rows.
function levelsOf(which) {
  const { spacing } = state.cadence[which], baseline = data.arms[0];
  return cached(data, "levels-" + which + spacing, () => {
    const runs = finished(baseline), steps = Math.max(1, Math.ceil(baseline.total / baseline.per_step));
    const evaluations = runs.length ? runs[0].eval.samples.filter((count) => count > 0) : [];
    const most = which === "eval" ? evaluations.length : steps;
    if (spacing === "log") return ladder(2, Math.max(2, Math.min(most, 200)));
    if (which === "log") return ladder(1, Math.max(1, Math.floor(steps / 2))).map((count) => count * baseline.per_step);
    const known = new Set(evaluations), wanted = evaluations.length > 400 ? ladder(1, evaluations.length).map((i) => evaluations[i - 1]) : evaluations;
    const works = wanted.filter((count) => dueAt(baseline, { spacing: "even", every: count }).every((point) => known.has(point)));
    return works.length ? works : [baseline.total];
  });
}

// All small numbers, then ever larger gaps: about sixty of them.
function ladder(low, high) {
  const found = [];
  for (let value = low; value < high; value = Math.max(value + 1, Math.round(value * 1.09))) found.push(value);
  return [...found, high];
}

function specOf(which) {
  const chosen = state.cadence[which], levels = levelsOf(which), value = levels[Math.min(chosen.level, levels.length - 1)];
  return chosen.spacing === "log" ? { ...chosen, count: value } : { ...chosen, every: value };
}

function inWords(which, spec) {
  const thing = which === "eval" ? "evaluation" : "row", baseline = data.arms[0];
  if (spec.spacing === "log") return `${spec.count} ${thing}s, dense early and sparse later`;
  const steps = spec.every / baseline.per_step, number = spec.every.toLocaleString("en-US");
  const also = Number.isInteger(steps) ? ` (${steps.toLocaleString("en-US")} step${steps === 1 ? "" : "s"} of the baseline)` : "";
  return `${which === "eval" ? "an" : "a"} ${thing} every ${number} sample${spec.every === 1 ? "" : "s"}${also}`;
}

function drawCadence(element) {
  const which = element.dataset.cadence, spec = specOf(which), curve = which === "eval" ? "eval_loss" : spec.curve;
  const ordered = [...shown()].reverse(), traces = [];
  const read = new Map(ordered.map((arm) => [arm, reread(arm, which, spec)]));
  for (const arm of ordered) {
    const dense = which === "eval" ? evalMean(arm) : smoothed(arm, curve, 1);
    const at = thin(dense.y, 300);
    traces.push(named(arm, {
      x: at.map((i) => alongAll(dense.runs, state.unit, dense.steps[i])), y: at.map((i) => dense.y[i]), hoverinfo: "skip",
      hovertemplate: undefined, legendgroup: "dense", line: { color: faded(color("--" + arm.style), 0.35), width: 1.2 },
    }));
  }
  for (const arm of ordered) {
    const one = read.get(arm);
    if (!one) continue;
    const at = thin(one.y, 300);
    traces.push(named(arm, {
      x: at.map((i) => alongAll(one.runs, state.unit, one.steps[i])), y: at.map((i) => one.y[i]), legendgroup: "resampled",
      mode: at.length <= 80 ? "lines+markers" : "lines", marker: { size: 7 },
      line: { color: color("--" + arm.style), width: 2.2, dash: arm.style === "placebo" ? "dot" : arm.dash },
    }));
  }
  tell(which, spec, curve, read);
  const log = state.log.has(curve);
  const made = layout(state.unit, unitOf[curve], { log, logX: state.logX, revision: state.unit + state.logX + curve });
  return Plotly.react(element, traces, made, config);
}

// The figures next to a slider: per arm the decrease before the first evaluation, or the share of the highest norm that is shown.
function tell(which, spec, curve, read) {
  document.querySelector(`[data-cadence-words="${which}"]`).textContent = inWords(which, spec);
  const norm = curve === "grad_norm", list = document.querySelector(`[data-shares="${which}"]`);
  document.querySelector(`[data-shares-title="${which}"]`).textContent = norm
    ? "Highest gradient norm shown, as a share of the highest recorded"
    : `Decrease of the ${which === "eval" ? "eval" : "training"} loss before the first ${which === "eval" ? "evaluation" : "row"}`;
  list.replaceChildren(...shown().map((arm) => {
    const one = read.get(arm), item = document.createElement("li"), swatch = document.createElement("i");
    const value = one && (norm ? one.peak : one.share), strong = document.createElement("b");
    swatch.className = "swatch " + arm.style;
    strong.textContent = one ? percent(value) : "not recorded";
    item.dataset.arm = arm.name;
    if (one && value !== null) item.dataset.value = value;
    item.append(swatch, arm.change + " ", strong, one ? ` first at step ${one.first.toLocaleString("en-US")} of ${one.steps.at(-1).toLocaleString("en-US")}` : "");
    return item;
  }));
}
