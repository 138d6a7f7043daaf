// Bars of what was finished in each slice of time, drawn anew when the page has got new figures or other colours.
"use strict";

const HEIGHT = 190; // px
const WHOLE = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400]; // seconds between ticks
const drawn = new WeakMap();
const clockTime = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

function colours() {
  const style = getComputedStyle(document.documentElement);
  const probe = document.createElement("span");
  document.body.append(probe);
  const read = (name) => {
    probe.style.color = style.getPropertyValue(name);
    return getComputedStyle(probe).color;
  };
  const found = { bar: read("--grain"), line: read("--line"), text: read("--muted") };
  probe.remove();
  return found;
}

function options(width, colour, slice) {
  const axis = { stroke: colour.text, font: "12px system-ui, sans-serif", grid: { stroke: colour.line, width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    cursor: { y: false, points: { show: false } },
    legend: { show: false },
    scales: { y: { range: (_chart, _low, high) => [0, Math.max(high * 1.1, 1 / slice)] } },
    axes: [{ ...axis, grid: { show: false }, incrs: WHOLE, space: 84, values: (_chart, ticks) => ticks.map((tick) => clockTime.format(tick * 1000)) }, { ...axis, size: 44, label: "nodes/s", labelSize: 16, labelFont: "12px system-ui, sans-serif" }],
    series: [{}, {
      fill: colour.bar,
      stroke: colour.bar,
      width: 0,
      paths: uPlot.paths.bars({ size: [0.88, Infinity], align: 1 }),
      points: { show: false },
    }],
  };
}

function draw(holder) {
  const series = JSON.parse(holder.dataset.series);
  const times = series.counts.map((_count, place) => series.begin + place * series.width);
  const rates = series.counts.map((count) => count / series.width);
  times.push(series.begin + series.counts.length * series.width); // the last bar needs its room
  rates.push(null);
  const known = drawn.get(holder);
  const look = `${document.documentElement.dataset.theme}${matchMedia("(prefers-color-scheme: dark)").matches}${holder.clientWidth}`;
  if (known?.look === look && known.slice === series.width) {
    if (known.text !== holder.dataset.series) known.chart.setData([times, rates]);
    known.text = holder.dataset.series;
    return;
  }
  known?.chart.destroy();
  const chart = new uPlot(options(holder.clientWidth, colours(), series.width), [times, rates], holder);
  drawn.set(holder, { chart, look, slice: series.width, text: holder.dataset.series });
}

function drawAll() {
  for (const holder of document.querySelectorAll("[data-chart]")) draw(holder);
}

document.addEventListener("DOMContentLoaded", drawAll);
document.addEventListener("thresher:shown", drawAll);
document.addEventListener("thresher:theme", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("resize", drawAll);
