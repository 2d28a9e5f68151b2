// The page by itself, for 2.11 and for direct links: the element with `data-env` has `env` as JSON, without `navigate`.

import { mount } from "./warehouse.js";

const place = document.querySelector("[data-env]");
document.body.style.margin = "0";
mount(place, { csrf: null, ...JSON.parse(place.dataset.env), navigate: null });
