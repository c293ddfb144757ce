// Fewer points for a long curve without losing a spike: of every bucket the lowest, the highest and the first gap stay,
// and so do both ends. The same rule as ablate/report/curves.py.
function thin(values, most) {
  const count = values.length;
  if (count <= Math.max(most, 6)) return Array.from({ length: count }, (_, i) => i);
  const buckets = Math.max(1, Math.floor((most - 2) / 3)), indices = new Set([0, count - 1]);
  for (let bucket = 0; bucket < buckets; bucket++) {
    const start = Math.floor((bucket * count) / buckets), stop = Math.floor(((bucket + 1) * count) / buckets);
    let low = -1, high = -1, gap = -1;
    for (let i = start; i < stop; i++) {
      const value = values[i];
      if (value === null || !Number.isFinite(value)) { if (gap < 0) gap = i; continue; }
      if (low < 0 || value < values[low]) low = i;
      if (high < 0 || value > values[high]) high = i;
    }
    for (const i of [low, high, gap]) if (i >= 0) indices.add(i);
  }
  return [...indices].sort((a, b) => a - b);
}
