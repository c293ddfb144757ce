// Colours and the parts of a picture that are the same in all of them. Colours are those of the style sheet.
const paperWidth = 680;
const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
const touch = window.matchMedia("(pointer: coarse)").matches;
const unitOf = { loss: "nats", eval_loss: "nats", grad_norm: "L2 norm" };
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
// Plotly reads a small HTML dialect in names; a name is only ever text here.
const literal = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const figure = (value) => (Number.isFinite(value) ? Number(value.toPrecision(3)).toString() : "–");
const percent = (share) => {
  if (share === null || !Number.isFinite(share)) return "–";
  const whole = Math.round(100 * share);
  if (whole >= 100 && share < 1) return "> 99%";
  return whole <= 0 && share > 0 ? "< 1%" : (whole + "%").replace("-", "−");
};

function layout(xTitle, yTitle, { log = false, logX = false, revision = "" } = {}) {
  const line = color("--line");
  const axis = { gridcolor: line, linecolor: line, zeroline: false, ticks: "" };
  const title = (text) => ({ text: text, font: { size: 12, color: color("--soft") }, standoff: 8 });
  const logarithmic = { type: "log", dtick: "D2", tickformat: "~g" };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "x unified", uirevision: revision,
    ...(state.onPaper ? { width: paperWidth } : { autosize: true }),
    margin: { l: 56, r: 10, t: 8, b: 44 }, // fixed: to measure labels costs a second drawing
     dragmode: touch ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("--soft") },
    hoverlabel: { bgcolor: color("--paper"), bordercolor: color("--line"), font: { color: color("--ink") }, namelength: -1 },
    xaxis: {
      ...axis, title: title(xTitle), showgrid: false, hoverformat: ",~r",
      ...(logX ? { ...logarithmic, dtick: 1 } : { rangemode: "tozero", tickformat: ",~r" }),
    },
    yaxis: { ...axis, title: title(yTitle), type: log ? "log" : "linear", ...(log ? logarithmic : {}) },
  };
}

// A curve with the name of its arm; baseline on top, so it is drawn last.
const named = (arm, extra) => ({
  type: "scatter", mode: "lines", name: literal(arm.change), meta: arm.name, hovertemplate: "%{y:.4g}", ...extra,
});
