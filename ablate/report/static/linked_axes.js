// Panels over the same horizontal axis are one picture: what is hovered, or zoomed, in one of them is so in the others.
let zooming = false;
function link(element) {
  const others = () => every("[data-panel]").filter((other) => other !== element && other.data && visible(other));
  element.on("plotly_hover", (event) => {
    const at = event.xvals ? event.xvals[0] : event.points[0].x;
    for (const other of others()) Plotly.Fx.hover(other, { xval: at }, "xy", true);
  });
  element.on("plotly_unhover", () => others().forEach((other) => Plotly.Fx.unhover(other)));
  element.on("plotly_relayout", async (change) => {
    if (zooming) return;
    const moved = Object.fromEntries(Object.entries(change).filter(([key]) => key.startsWith("xaxis.")));
    if (!Object.keys(moved).length) return;
    zooming = true;
    await Promise.all(others().map((other) => Plotly.relayout(other, moved)));
    zooming = false;
  });
}
