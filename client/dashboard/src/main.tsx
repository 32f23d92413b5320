import { render } from "preact";
import { App } from "./app";
import { startClock } from "./clock";
import { followAddress } from "./route";
import { begin, followLinks } from "./signed_in";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/views.css";

startClock();
followAddress();
followLinks();
const page = document.getElementById("page");
if (page !== null) render(<App />, page);
void begin();
