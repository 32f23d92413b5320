/** Signing in with a farm's name and password. */

import { useState } from "preact/hooks";
import { isId } from "../bus/topics";
import { farm, signIn, trouble } from "../signed_in";

export function SignIn() {
  const document_ = farm.value;
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const submit = (event: Event): void => {
    event.preventDefault();
    const name = user.trim();
    if (!isId(name)) {
      trouble.value = "Names have letters, digits, _ and - only.";
      return;
    }
    signIn({ user: name, password: password.trim(), wall: false });
  };
  const command = document_?.signIn?.command;
  return (
    <main class="sign-in">
      <form onSubmit={submit}>
        <h1>{document_ === null ? "icebus" : `Farm ${document_.farm}`}</h1>
        <label class="field">
          Name
          <input
            name="username"
            autocomplete="username"
            autocapitalize="none"
            spellcheck={false}
            required
            value={user}
            onInput={(event) => setUser(event.currentTarget.value)}
          />
        </label>
        <label class="field">
          Password
          <input
            name="password"
            type="password"
            autocomplete="current-password"
            required
            value={password}
            onInput={(event) => setPassword(event.currentTarget.value)}
          />
        </label>
        <p class="failure" role="alert">
          {trouble.value}
        </p>
        <button type="submit" class="primary" disabled={document_ === null}>
          Sign in
        </button>
        <p class="hint">
          Both stand in your profile of the farm: <code>icebus profile show NAME -o mosquitto</code>
          .
          {command && (
            <>
              {" "}
              Or run <code>{command}</code> where this dashboard runs, and open the link that it
              prints.
            </>
          )}{" "}
          The password stays in this tab.
        </p>
      </form>
    </main>
  );
}
