// Draws everything, one picture after the other so that the page stays responsive; again for other colours, and for paper.
function draw(element) {
  const { panel, replay, cadence, forest, histogram } = element.dataset;
  if (panel) return drawPanel(element);
  if (replay) return drawReplay(element);
  if (cadence) return drawCadence(element);
  if (forest !== undefined) return drawForest(element);
  return histogram !== undefined ? drawHistogram(element) : null;
}

const pictures = () => every("[data-forest], [data-panel], [data-cadence], [data-histogram], [data-replay]");

async function drawAll() {
  for (const element of pictures()) {
    await draw(element);
    await new Promise((go) => setTimeout(go));
  }
}

legend();
units();
smoothing();
cadences();
outcomes();
drawAll().then(() => {
  link(every("[data-panel]"));
  document.documentElement.setAttribute("data-drawn", "true");
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
window.matchMedia("print").addEventListener("change", (print) => {
  state.onPaper = print.matches;
  pictures().forEach(draw); // immediately: paper does not wait
});
