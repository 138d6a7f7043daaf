// Times within the options of a choice, which can hold no <time>, in the reader's zone.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const option of document.querySelectorAll("option[data-when]")) {
    option.textContent = option.textContent.replace(/\d{4}-\d\d-\d\d \d\d:\d\d UTC/, clock.format(new Date(option.dataset.when)));
  }
});
