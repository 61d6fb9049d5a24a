// Each form is sent only once. Screen readers read the result or the error first.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", () => {
    const button = form.querySelector("button.main");
    if (!button || button.hasAttribute("data-again")) return;
    button.setAttribute("aria-disabled", "true");
    setTimeout(() => { button.disabled = true; });
  });
}
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[aria-disabled]")) {
    button.removeAttribute("aria-disabled");
    button.disabled = false;
  }
});
// A file fills a text field of the page, and is not sent itself.
for (const chooser of document.querySelectorAll("input[data-into]")) {
  chooser.addEventListener("change", async () => {
    if (chooser.files.length) document.getElementById(chooser.dataset.into).value = await chooser.files[0].text();
  });
}
// The field that an error is about is marked, and its label follows the error's text. Of several with the name, none is.
const problem = document.querySelector("[role=alert][data-field]");
const named = problem ? document.getElementsByName(problem.dataset.field) : [];
const label = named.length === 1 && named[0].closest("label")?.querySelector("span");
if (label) {
  named[0].setAttribute("aria-invalid", "true");
  problem.querySelector("strong").after(` ${label.textContent}. `);
}
const answer = document.querySelector("[data-focus]") ?? document.querySelector("[role=alert]");
if (answer) {
  if (!answer.hasAttribute("tabindex")) answer.setAttribute("tabindex", "-1");
  answer.focus({ preventScroll: true });
  if (answer.getBoundingClientRect().top > innerHeight * 0.7) answer.scrollIntoView({ block: "start" });
}
// On a small screen the navigation is a row that scrolls.
const here = document.querySelector(".side [aria-current]");
const row = here?.closest(".side");
if (row) row.scrollLeft = here.offsetLeft - (row.clientWidth - here.offsetWidth) / 2;
