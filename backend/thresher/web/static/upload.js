// A document that is dropped or chosen is sent at once, with its progress; without this script the form does it.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector("[data-upload]");
  const input = form.querySelector("input[type=file]");
  const bar = form.querySelector("[data-upload-progress]");
  const words = form.querySelector("[data-upload-words]");
  const error = form.querySelector("[data-upload-error]");
  const button = form.querySelector("button");

  const fail = (text) => {
    error.textContent = text;
    error.hidden = false;
    bar.hidden = true;
    button.disabled = false;
  };

  const reasonIn = (page) => {
    const shown = new DOMParser().parseFromString(page, "text/html").querySelector("[role=alert], main .lead");
    return shown?.textContent.trim() || "The document was not taken.";
  };

  function send(file) {
    const body = new FormData();
    for (const field of form.querySelectorAll("input[type=hidden]")) body.append(field.name, field.value);
    body.append("file", file, file.name);
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
    request.open("POST", form.action);
    request.setRequestHeader("HX-Request", "true");
    request.upload.onprogress = (event) => {
      const share = event.lengthComputable ? Math.floor((100 * event.loaded) / event.total) : 0;
      bar.querySelector("progress").value = share;
      words.textContent = share < 100 ? `${file.name}: ${share} %` : `${file.name}: being looked at …`;
    };
    request.onload = () => {
      const following = request.getResponseHeader("HX-Redirect");
      if (following) location.assign(following);
      else fail(reasonIn(request.responseText));
    };
    request.onerror = () => fail("The server did not take the document: it may be too large, or the server is away.");
    error.hidden = true;
    bar.hidden = false;
    button.disabled = true;
    words.textContent = file.name;
    request.send(body);
  }

  form.classList.add("live");
  input.addEventListener("change", () => { if (input.files.length) send(input.files[0]); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.files.length) send(input.files[0]);
  });
  addEventListener("pageshow", () => { bar.hidden = true; button.disabled = false; form.reset(); });

  let inside = 0;
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("dragenter", () => { inside += 1; form.classList.add("is-over"); });
  addEventListener("dragleave", () => { inside -= 1; if (inside <= 0) form.classList.remove("is-over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    form.classList.remove("is-over");
    const files = event.dataTransfer.files;
    if (files.length > 1) fail("One document at a time, please.");
    else if (files.length) send(files[0]);
  });
});
