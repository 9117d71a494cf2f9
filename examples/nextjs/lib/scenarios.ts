/** The places of the application that show posts. HOME is a row of recdb.scenario; see scenarios.sql. */
export const HOME = "home";
/** Recent posts, which no recommender has ranked. Their impressions belong to no experiment. */
export const RECENT = "recent";
export const SCENARIOS: readonly string[] = [HOME, RECENT];
