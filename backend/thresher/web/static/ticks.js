// One tick for all others of its form; hidden where there is no script.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const label of document.querySelectorAll("[data-tick-all]")) {
    const all = label.querySelector("input");
    const others = [...all.form.querySelectorAll("input[type=checkbox][name]")];
    label.hidden = false;
    all.addEventListener("change", () => { for (const one of others) one.checked = all.checked; });
    all.form.addEventListener("change", () => {
      const ticked = others.filter((one) => one.checked).length;
      all.checked = ticked === others.length;
      all.indeterminate = ticked > 0 && ticked < others.length;
    });
  }
});
