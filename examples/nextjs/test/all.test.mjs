/** All tests, in one process: they share a database, an application and a browser, which take many seconds to start. */

import "./feed.mjs";
import "./steering.mjs";
import "./experiment.mjs";
