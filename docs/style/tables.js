// On a phone each row of a wide table is a block (site.css), in which each cell shows the name of its column.
for (const table of document.querySelectorAll("table.docutils")) {
  const names = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent);
  if (names.length < 3) continue;
  table.classList.add("wide");
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, place) => {
      cell.dataset.column = names[place];
      cell.classList.toggle("empty", !cell.textContent.trim());
    });
  }
}
