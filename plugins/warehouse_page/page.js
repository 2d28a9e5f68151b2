// The page by itself, for 2.11 and for direct links: <div id="warehouse" data-env="{…}">, where data-env is `env` as JSON, without `navigate`.

import { mount } from "./warehouse.js";

const place = document.getElementById("warehouse");
mount(place, { navigate: null, csrf: null, ...JSON.parse(place.dataset.env) });
