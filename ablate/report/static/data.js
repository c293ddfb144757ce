// The runs from the JSON in the page: numbers are unpacked when they are first needed, and cached.
const data = JSON.parse(document.getElementById("curves-data").textContent);
const finished = (arm) => arm.runs.filter((run) => run.status === "finished");

// Four characters a number: the upper 24 bits of a float32 (ablate/report/chart_data.py).
function unpacked(text) {
  const bytes = atob(text), count = bytes.length / 3, bits = new Uint32Array(count);
  for (let i = 0, k = 0; i < count; i++, k += 3)
    bits[i] = (bytes.charCodeAt(k) << 24) | (bytes.charCodeAt(k + 1) << 16) | (bytes.charCodeAt(k + 2) << 8);
  return new Float32Array(bits.buffer);
}

function cached(owner, name, make) {
  const key = "_" + name;
  if (!(key in owner)) Object.defineProperty(owner, key, { value: make() });
  return owner[key];
}

// The last step of every row: 1, 2, 3 ...; of a very long run, further on only every so many.
function rowEnds(run) {
  return cached(run, "ends", () => {
    const rows = run.rows, ends = [];
    if (rows.steps) return rows.steps;
    for (let step = 1; step <= rows.single; step++) ends.push(step);
    if (rows.every) {
      for (let step = rows.single + rows.every; step < rows.last; step += rows.every) ends.push(step);
      ends.push(rows.last);
    }
    return ends;
  });
}

// One value per row. how: "mean", "last" or "max" over the steps of a row; the same thing where a row is a step.
function column(run, name, how) {
  const held = run[name], which = held.each === undefined ? how : "each";
  return cached(run, name + which, () => unpacked(held[which]));
}

// How far a run is after a step, in a unit of the horizontal axis: a factor, or knots with straight lines between.
function along(run, unit, step) {
  if (unit === "steps") return step;
  const map = run.x[unit];
  if (map === null) return unit === "samples" ? step : null;
  if (typeof map === "number") return map * step;
  const [steps, values] = map;
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle; else high = middle;
  }
  return values[low] + ((values[high] - values[low]) * (step - steps[low])) / (steps[high] - steps[low] || 1);
}

// Of several runs of an arm, their mean: seeds take different seconds for the same step.
const alongAll = (runs, unit, step) => runs.reduce((sum, run) => sum + along(run, unit, step), 0) / runs.length;

const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
