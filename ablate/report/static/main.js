// Draws everything, one picture after the other so that the page stays responsive; again for other colours, and for paper.
function draw(element) {
  if (element.dataset.cadence) return drawCadence(element);
  const drawn = drawPanel(element);
  cached(element, "linked", () => link(element));
  return drawn;
}
const pictures = () => every("[data-panel], [data-cadence]").filter(visible);

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
// What a fold hides is drawn when it is opened, because only then it has a size.
every("details").forEach((fold) => fold.addEventListener("toggle", () => soon([...fold.querySelectorAll("[data-panel]")])));
drawAll().then(() => document.documentElement.setAttribute("data-drawn", "true"));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
window.matchMedia("print").addEventListener("change", (print) => {
  state.onPaper = print.matches;
  pictures().forEach(draw); // immediately: paper does not wait
});
