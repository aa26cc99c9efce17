// A slider chooses among pictures that Python has drawn and the text that belongs to each: nothing is computed here.
for (const figure of document.querySelectorAll(".moving")) {
    const slider = figure.querySelector("input");
    const picture = figure.querySelector("img");
    const frames = JSON.parse(figure.dataset.frames); // [[value, text], ...]
    const pictures = frames.map(() => null);

    function load(number) {
        if (!pictures[number]) {
            pictures[number] = new Image();
            pictures[number].src = `${figure.dataset.folder}/${String(number).padStart(2, "0")}.webp`;
        }
        return pictures[number];
    }

    async function show() {
        const number = slider.valueAsNumber;
        const [value, text] = frames[number];
        figure.querySelector(".value").textContent = value;
        slider.setAttribute("aria-valuetext", value);
        const next = load(number);
        await next.decode();
        if (number !== slider.valueAsNumber) return; // the slider is elsewhere by now
        picture.src = next.src;
        figure.querySelector("[role=status]").textContent = text;
    }

    const loadAll = () => frames.forEach((_, number) => load(number));
    slider.addEventListener("focus", loadAll, { once: true });
    slider.addEventListener("pointerenter", loadAll, { once: true });
    slider.addEventListener("input", show);
}
