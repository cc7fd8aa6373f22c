// The inputs below the parallel coordinates, two for each axis: the ranges by keyboard, by finger, or heard.

function drawRangeInputs(axes) {
  const sets = axes.map((axis) => {
    const ends = [h("output"), h("output")];
    const inputs = [0, 1].map((end) => {
      const name = `${axis.title}, ${end ? "highest" : "lowest"} on the axis`;
      const input = h("input", {
        type: "range",
        min: 0,
        max: axis.steps,
        value: end * axis.steps,
        "aria-label": name,
        "data-end": end,
      });
      input.addEventListener("input", () => {
        const [from, to] = inputs.map((each) => Number(each.value));
        if (from > to) inputs[1 - end].value = input.value;
        setRange(
          axis,
          inputs.map((each) => Number(each.value) / axis.steps),
        );
        inputWords(axis, inputs, ends);
      });
      return input;
    });
    inputWords(axis, inputs, ends);
    const set = h(
      "fieldset",
      { "data-axis": axis.id },
      h("legend", {}, axis.title),
      h("div", {}, inputs[0], ends[0]),
      h("div", {}, inputs[1], ends[1]),
    );
    set.update = () => {
      const range = ranges.get(axis.id) ?? [0, 1];
      inputs.forEach((input, end) => {
        input.value = Math.round(range[end] * axis.steps);
      });
      inputWords(axis, inputs, ends);
    };
    set.update();
    return set;
  });
  document.getElementById("ranges").replaceChildren(...sets);
}

function inputWords(axis, inputs, ends) {
  inputs.forEach((input, end) => {
    const words = axis.words(Number(input.value) / axis.steps, end === 0);
    ends[end].textContent = `${end ? "to" : "from"} ${words}`;
    input.setAttribute("aria-valuetext", words);
  });
}

function syncInputs(axis) {
  for (const set of document.querySelectorAll("#ranges fieldset"))
    if (!axis || set.dataset.axis === axis.id) set.update();
}
