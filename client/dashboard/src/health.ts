/** Whether what the page shows is of now; if not, what is gone and since when. */

import { tick } from "./clock";
import { controlStatus } from "./farm/liveness";
import type { Session } from "./session";

export interface Health {
  /** Whether all that is shown is of now. Otherwise it is greyed and nothing can be done. */
  readonly live: boolean;
  readonly state: string;
  readonly text: string;
  /** When it began, this machine's milliseconds; null where that does not matter. */
  readonly since: number | null;
  /** More for people: why, and the address that failed. */
  readonly detail: string;
}

export function healthOf(session: Session): Health {
  session.read("control");
  const link = session.connection.link.value;
  const { url } = session.connection;
  switch (link.phase) {
    case "off":
      return { live: false, state: "offline", text: "signed out", since: null, detail: "" };
    case "connecting":
      return {
        live: false,
        state: "connecting",
        text: "connecting",
        since: link.since,
        detail: url,
      };
    case "lost":
      return {
        live: false,
        state: "lost",
        text: "broker gone",
        since: link.since,
        detail: `${url}: ${link.why}. Trying again.`,
      };
    case "online":
      return ofControl(session, link.since);
  }
}

function ofControl(session: Session, heardSince: number): Health {
  const control = controlStatus(session.state, heardSince, Math.max(tick.value, heardSince));
  switch (control.phase) {
    case "online":
      return {
        live: true,
        state: "online",
        text: "live",
        since: heardSince,
        detail: control.leader === null ? "" : `control ${control.leader} leads`,
      };
    case "unheard":
      return {
        live: false,
        state: "connecting",
        text: "listening for control",
        since: heardSince,
        detail: "",
      };
    case "silent":
      return {
        live: false,
        state: "lost",
        text: "control gone",
        since: control.since,
        detail: "The broker answers, but no control sends heartbeats. Boards go on measuring.",
      };
  }
}
