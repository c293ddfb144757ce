// The mean over the seeds of an arm and the band from the lowest to the highest of them, smoothed over so many samples.
// A run that stopped early is left out of both: its end would show as a jump that no run made.

// Rows that all finished runs of an arm have: per run an index for each common row.
function commonRows(arm) {
  return cached(arm, "common", () => {
    const runs = finished(arm).filter((run) => rowEnds(run).length);
    if (!runs.length) return { runs, ends: [], indices: [] };
    const all = runs.map(rowEnds);
    const shortest = all.reduce((best, ends) => (ends.length < best.length ? ends : best));
    if (all.every((ends) => shortest.every((end, i) => ends[i] === end))) return { runs, ends: shortest, indices: null };
    const positions = all.map((ends) => new Map(ends.map((end, i) => [end, i])));
    const shared = shortest.filter((end) => positions.every((index) => index.has(end)));
    return { runs, ends: shared, indices: positions.map((index) => shared.map((end) => index.get(end))) };
  });
}

// Running sums over the common rows of one run, so that a mean over any stretch costs two lookups.
function sums(arm, which, name) {
  const { runs, ends, indices } = commonRows(arm), run = runs[which];
  return cached(run, "sums-" + name, () => {
    const values = column(run, name, "mean");
    const total = new Float64Array(ends.length + 1), weight = new Float64Array(ends.length + 1);
    for (let i = 0; i < ends.length; i++) {
      const value = values[indices ? indices[which][i] : i], steps = i ? ends[i] - ends[i - 1] : ends[0];
      const counts = Number.isFinite(value) ? steps : 0;
      total[i + 1] = total[i] + (counts ? value * counts : 0);
      weight[i + 1] = weight[i] + counts;
    }
    return { total, weight };
  });
}

// {runs, steps, y, low, high}. The value at a step is the mean over the last `samples` samples, as a log of that cadence has it.
function smoothed(arm, name, samples) {
  const { runs, ends } = commonRows(arm), span = Math.max(1, Math.round(samples / arm.per_step));
  if (!ends.length) return { runs: [], steps: [], y: [], low: [], high: [] };
  const rows = Math.max(1, Math.round((span * ends.length) / ends[ends.length - 1]));
  const stride = Math.max(1, Math.floor(rows / 6)), count = Math.ceil(ends.length / stride);
  const y = new Float64Array(count), low = new Float64Array(count).fill(Infinity), high = new Float64Array(count).fill(-Infinity);
  const steps = new Array(count), each = runs.map((_, which) => sums(arm, which, name));
  let start = 0;
  for (let k = 0; k < count; k++) {
    const i = ends.length - 1 - (count - 1 - k) * stride; // the last row is always one of them
    while (ends[start] <= ends[i] - span) start++;
    steps[k] = ends[i];
    for (let which = 0; which < each.length; which++) {
      const { total, weight } = each[which], value = (total[i + 1] - total[start]) / (weight[i + 1] - weight[start]);
      y[k] += value / each.length;
      if (value < low[k]) low[k] = value;
      if (value > high[k]) high[k] = value;
    }
  }
  return { runs, steps, y, low, high };
}

// The same of the eval loss, at the evaluations that all finished runs have.
function evalMean(arm) {
  return cached(arm, "evalMean", () => {
    const runs = finished(arm).filter((run) => run.eval.steps.length);
    const evaluations = runs.map((run) => new Map(run.eval.steps.map((step, i) => [step, run.eval.y[i]])));
    const steps = runs.length ? runs[0].eval.steps.filter((step) => evaluations.every((evaluation) => evaluation.has(step))) : [];
    const values = steps.map((step) => evaluations.map((evaluation) => evaluation.get(step)));
    const over = (read) => values.map((seeds) => (seeds.some((value) => value === null) ? null : read(seeds)));
    return { runs, steps, y: over(mean), low: over((seeds) => Math.min(...seeds)), high: over((seeds) => Math.max(...seeds)) };
  });
}
