/** The page: who is signed in, whether all is live, and the view that the address names. */

import { lazy, Suspense } from "preact/compat";
import { SessionContext } from "./components/context";
import { Dialog } from "./components/dialog";
import { StatusBar } from "./components/status_bar";
import { healthOf } from "./health";
import { link, route, type View } from "./route";
import type { Session } from "./session";
import { session } from "./signed_in";
import { ActivityView } from "./views/activity";
import { BoardsView } from "./views/boards";
import { FarmView } from "./views/farm";
import { LogsView } from "./views/logs";
import { ReservationsView } from "./views/reservations";
import { SignIn } from "./views/sign_in";

// These draw plots, which others need not wait for.
const BoardView = lazy(() => import("./views/board").then(({ BoardView: view }) => view));
const ExperimentView = lazy(() =>
  import("./views/experiment").then(({ ExperimentView: view }) => view),
);

const NAMES: readonly (readonly [View, string])[] = [
  ["farm", "Farm"],
  ["boards", "Boards"],
  ["reservations", "Reservations"],
  ["activity", "Activity"],
  ["experiment", "Experiment"],
  ["logs", "Logs"],
];

export function App() {
  const signedIn = session.value;
  return signedIn === null ? <SignIn /> : <SignedIn session={signedIn} />;
}

function SignedIn({ session: signedIn }: { session: Session }) {
  const health = healthOf(signedIn);
  return (
    <SessionContext.Provider value={signedIn}>
      <button type="button" class="skip" onClick={skip}>
        To the content
      </button>
      <StatusBar health={health} />
      <Navigation session={signedIn} />
      <main id="main" tabIndex={-1} class={health.live ? "" : "stale"} aria-busy={!health.live}>
        <Suspense fallback={<p class="empty">Loading…</p>}>
          <CurrentView />
        </Suspense>
      </main>
      <Dialog />
    </SessionContext.Provider>
  );
}

/** A button, for the address's fragment stands for the view. */
function skip(): void {
  document.getElementById("main")?.focus();
}

function Navigation({ session: signedIn }: { session: Session }) {
  const { view } = route.value;
  const shown = view === "board" ? "boards" : view;
  const admin = signedIn.role.value === "admin";
  const mine = signedIn.role.value === "user" || admin;
  return (
    <nav aria-label="Views">
      {NAMES.filter(([name]) => (name === "logs" ? admin : name !== "experiment" || mine)).map(
        ([name, text]) => (
          <a
            key={name}
            href={link(name)}
            data-name={text}
            aria-current={name === shown ? "page" : undefined}
          >
            {text}
          </a>
        ),
      )}
    </nav>
  );
}

function CurrentView() {
  const { view, id } = route.value;
  switch (view) {
    case "farm":
      return <FarmView />;
    case "boards":
      return <BoardsView />;
    case "board":
      return <BoardView key={id} serial={id} />;
    case "reservations":
      return <ReservationsView />;
    case "activity":
      return <ActivityView />;
    case "experiment":
      return <ExperimentView />;
    case "logs":
      return <LogsView />;
  }
}
