// Stacked bars of hours or days, from the figures beside them; over chart.js, whose colours and clock these are.
"use strict";

const LOOKS = { main: "--accent-line", good: "--good", bad: "--bad", warn: "--warn", rest: "--line-strong" };
const barsDrawn = new WeakMap();
const shortNumber = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const dollars = new Intl.NumberFormat(undefined, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", maximumSignificantDigits: 3 });
const hours = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const days = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

function readColours(names) {
  const probe = document.createElement("span");
  document.body.append(probe);
  const found = Object.fromEntries(Object.entries(names).map(([look, name]) => {
    probe.style.color = `var(${name})`;
    return [look, getComputedStyle(probe).color];
  }));
  probe.remove();
  return found;
}

// Each series is drawn from the ground up to the sum of itself and those below: the last one first.
function stacked(series) {
  const sums = series[0].values.map(() => 0);
  return series.map((one) => one.values.map((value, place) => (sums[place] += value))).reverse();
}

function barOptions(chart, width, colour) {
  const step = chart.is_hourly ? 3600 : 86400;
  const axis = { stroke: colour.text, font: "12px system-ui, sans-serif", grid: { stroke: colour.line, width: 1 }, ticks: { show: false } };
  const clock = chart.is_hourly ? hours : days;
  const label = chart.is_money ? (value) => dollars.format(value) : (value) => shortNumber.format(value);
  return {
    width,
    height: HEIGHT,
    cursor: { show: false },
    legend: { show: false },
    scales: {
      x: { range: () => [chart.times[0], chart.times.at(-1) + step] },
      y: { range: (_chart, _low, high) => [0, Math.max(high * 1.1, chart.is_money ? 0.000001 : 4)] },
    },
    axes: [
      { ...axis, grid: { show: false }, values: (_chart, marks) => marks.map((mark) => clock.format(mark * 1000)), incrs: WHOLE.concat([86400, 2 * 86400, 7 * 86400, 14 * 86400, 30 * 86400]).filter((one) => one >= step) },
      { ...axis, size: 62, values: (_chart, marks) => marks.map(label), incrs: chart.is_money ? undefined : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8, 1e9] },
    ],
    series: [{}, ...chart.series.map((one) => ({
      fill: colour[one.look],
      stroke: colour[one.look],
      width: 0,
      paths: uPlot.paths.bars({ size: [0.8, 48], align: 1 }),
      points: { show: false },
    })).reverse()],
  };
}

function drawBars() {
  for (const holder of document.querySelectorAll("[data-bars]")) {
    const text = document.getElementById(holder.dataset.bars).textContent;
    const look = `${text}${document.documentElement.dataset.theme}${matchMedia("(prefers-color-scheme: dark)").matches}${holder.clientWidth}`;
    const known = barsDrawn.get(holder);
    if (known?.look === look) continue;
    known?.chart.destroy();
    const chart = JSON.parse(text);
    const colour = readColours({ ...LOOKS, text: "--muted", line: "--line" });
    const times = [...chart.times, chart.times.at(-1) + (chart.is_hourly ? 3600 : 86400)]; // the last bar needs its room
    const data = [times, ...stacked(chart.series).map((values) => [...values, null])];
    barsDrawn.set(holder, { look, chart: new uPlot(barOptions(chart, holder.clientWidth, colour), data, holder) });
  }
}

document.addEventListener("DOMContentLoaded", drawBars);
document.addEventListener("thresher:shown", drawBars);
document.addEventListener("thresher:theme", drawBars);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawBars);
addEventListener("resize", drawBars);
