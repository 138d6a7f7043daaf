// Puts the text of a chosen file into a field; hidden where there is no script.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const holder of document.querySelectorAll("[data-file-text]")) {
    holder.hidden = false;
    const input = holder.querySelector("input[type=file]");
    input.addEventListener("change", async () => {
      if (input.files.length) document.getElementById(holder.dataset.fileText).value = await input.files[0].text();
    });
  }
});
