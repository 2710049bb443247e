//! Tools as catalogues have them, by the thousand, and goals in other words than theirs. For tests.
//!
//! Made of what services are called and what they keep, in the manners of function-calling data sets and of MCP servers:
//! names in three styles, summaries that are good, bare, or missing, arguments of every kind. A goal never uses a tool's own
//! verb: it says the same as people do, with a table of its own, names the service four times of five, and tells values.

use serde_json::{Map, json};

use crate::domain::{Effect, Json, ToolName};
use crate::planner::OfferedTool;

/// A goal, and the tool that it is about.
pub(super) struct Case {
    pub goal: String,
    pub tool: ToolName,
}

/// Service, what people call it, and what it keeps.
const SERVICES: [(&str, &str, &str); 64] = [
    ("github", "GitHub", "issue pull_request repository branch release gist workflow milestone"),
    ("gitlab", "GitLab", "issue merge_request project pipeline snippet runner"),
    ("jira", "Jira", "issue sprint board epic worklog"),
    ("linear", "Linear", "issue cycle team label"),
    ("slack", "Slack", "message channel reaction user_group reminder"),
    ("discord", "Discord", "message server role thread emoji"),
    ("teams", "Microsoft Teams", "message meeting channel tab"),
    ("gmail", "Gmail", "message draft label thread attachment filter"),
    ("outlook", "Outlook", "message folder rule contact event"),
    ("calendar", "my calendar", "event attendee availability recurrence"),
    ("zoom", "Zoom", "meeting recording webinar participant"),
    ("notion", "Notion", "page database block comment"),
    ("confluence", "Confluence", "page space attachment comment"),
    ("gdrive", "Google Drive", "file folder permission revision"),
    ("dropbox", "Dropbox", "file folder shared_link"),
    ("s3", "S3", "object bucket lifecycle_rule multipart_upload"),
    ("stripe", "Stripe", "payment_intent refund customer invoice subscription payout coupon dispute"),
    ("paypal", "PayPal", "order payout invoice dispute"),
    ("shopify", "Shopify", "product order customer discount collection inventory_level"),
    ("woocommerce", "WooCommerce", "product order coupon tax_rate"),
    ("salesforce", "Salesforce", "lead opportunity account contact campaign case"),
    ("hubspot", "HubSpot", "contact deal company ticket form"),
    ("zendesk", "Zendesk", "ticket macro article agent"),
    ("intercom", "Intercom", "conversation article segment tag"),
    ("twilio", "Twilio", "sms call phone_number verification"),
    ("sendgrid", "SendGrid", "email template suppression sender"),
    ("mailchimp", "Mailchimp", "campaign audience subscriber automation"),
    ("postgres", "Postgres", "table row index schema role"),
    ("mongo", "MongoDB", "document collection index aggregation"),
    ("redis", "Redis", "key hash sorted_set stream"),
    ("elastic", "Elasticsearch", "document index alias snapshot"),
    ("bigquery", "BigQuery", "dataset table query job routine"),
    ("snowflake", "Snowflake", "warehouse database stage task"),
    ("docker", "Docker", "container image volume network"),
    ("kubernetes", "Kubernetes", "pod deployment service config_map secret namespace node"),
    ("aws_ec2", "EC2", "instance security_group key_pair volume"),
    ("lambda", "Lambda", "function layer event_source alias"),
    ("cloudflare", "Cloudflare", "dns_record zone firewall_rule worker"),
    ("vercel", "Vercel", "deployment domain project environment_variable"),
    ("sentry", "Sentry", "issue event project alert_rule"),
    ("datadog", "Datadog", "monitor dashboard metric log downtime"),
    ("grafana", "Grafana", "dashboard alert panel data_source"),
    ("pagerduty", "PagerDuty", "incident schedule escalation_policy service"),
    ("weather", "the weather service", "forecast current_condition alert historical_observation air_quality"),
    ("maps", "the maps service", "route place geocode distance_matrix elevation"),
    ("flights", "the flight search", "flight fare seat_map airport booking"),
    ("hotels", "the hotel portal", "hotel room booking guest_review"),
    ("trains", "the railway", "connection ticket delay station"),
    ("stocks", "the stock market", "quote dividend earning split historical_price"),
    ("crypto", "the crypto exchange", "coin_price wallet trade order_book"),
    ("fx", "the exchange office", "exchange_rate currency conversion"),
    ("news", "the news archive", "headline article source topic"),
    ("spotify", "Spotify", "track playlist album artist recommendation"),
    ("youtube", "YouTube", "video playlist comment caption channel"),
    ("movies", "the film database", "movie actor rating showtime review"),
    ("recipes", "the cookbook", "recipe ingredient meal_plan nutrition_fact"),
    ("fitness", "my fitness tracker", "workout step_count heart_rate sleep_log weight_entry"),
    ("smart_home", "my house", "light thermostat lock camera scene"),
    ("bank", "my bank", "transfer account_balance transaction standing_order card"),
    ("hr", "the staff portal", "employee leave_request payslip position review_cycle"),
    ("images", "the image studio", "picture thumbnail watermark background color_palette"),
    ("pdf", "the PDF toolbox", "pdf_page form_field annotation signature bookmark"),
    ("language", "the language desk", "translation sentence_sentiment named_entity grammar_error summary"),
    ("sports", "the sports desk", "fixture standing player_statistic team lineup"),
];

/// A verb of tools, its summary, and how people say it.
const VERBS: [(&str, &str, [&str; 3]); 8] = [
    ("create", "Creates a new {}.", ["set up another {}", "I would like to have a new {}", "open a fresh {}"]),
    (
        "get",
        "Retrieves details of one {} by its identifier.",
        ["what do we know about {} 4711", "look up the {} named Alpha", "show me that {}"],
    ),
    (
        "list",
        "Lists {}s, with paging and filters.",
        ["which {}s are there", "show every {} since Monday", "give me an overview of all {}s"],
    ),
    (
        "update",
        "Updates fields of an existing {}.",
        ["change the title of the {}", "the {} is wrong, correct it", "edit that {}"],
    ),
    ("delete", "Deletes a {} permanently.", ["get rid of the old {}", "remove the {} for good", "throw away that {}"]),
    (
        "search",
        "Searches {}s by text.",
        ["find {}s that mention the launch", "I am looking for a {} about taxes", "look for {}s with the word urgent"],
    ),
    (
        "export",
        "Exports {}s to a file.",
        ["save the {}s as a spreadsheet", "download every {} into a CSV", "write the {}s to disk"],
    ),
    (
        "share",
        "Shares a {} with other people.",
        [
            "give Maria access to the {}",
            "let the team see the {}",
            "send the {} to a colleague so that she can open it",
        ],
    ),
];

/// A source of numbers: the same for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % below as u64).unwrap_or_default()
    }
}

/// Makes at least 2,000 tools, and a goal for each.
pub(super) fn corpus() -> (Vec<OfferedTool>, Vec<Case>) {
    let mut chance = Chance(7);
    let (mut tools, mut cases) = (Vec::new(), Vec::new());
    for (service, spoken, entities) in SERVICES {
        for entity in entities.split(' ') {
            for verb in VERBS {
                let tool = tool(service, entity, &verb, &mut chance);
                cases.push(Case { goal: goal(spoken, entity, &verb, &mut chance), tool: tool.name.clone() });
                tools.push(tool);
            }
        }
    }
    (tools, cases)
}

fn tool(service: &str, entity: &str, verb: &(&str, &str, [&str; 3]), chance: &mut Chance) -> OfferedTool {
    let (verb, summary, _) = verb;
    let function = match chance.next(3) {
        0 => format!("{verb}_{entity}"),
        1 => format!("{entity}-{verb}").replace('_', "-"),
        _ => format!("{service}_{verb}_{entity}"),
    };
    let words = entity.replace('_', " ");
    let summary = match chance.next(10) {
        0 => String::new(),
        1 => format!("{} {}", verb, words),
        _ => summary.replace("{}", &words),
    };
    OfferedTool {
        name: ToolName::new(service, &function).unwrap(),
        summary,
        effect: Effect::Read,
        input_schema: schema(entity, verb, chance),
        output_schema: json!({"type": "object"}),
    }
}

fn schema(entity: &str, verb: &str, chance: &mut Chance) -> Json {
    const COMMON: [(&str, &str); 9] = [
        ("limit", "Maximum number of results to return."),
        ("cursor", "Where the next page begins."),
        ("user_id", "The user on whose behalf the call is made."),
        ("title", "A short name."),
        ("tags", "Labels to filter by."),
        ("since", "Only what is newer, as an ISO 8601 date."),
        ("dry_run", "Only tell what would be done."),
        ("format", "How the result is written."),
        ("workspace", "The workspace or organization."),
    ];
    let mut properties = Map::new();
    if !matches!(verb, "create" | "list" | "search") {
        properties
            .insert(format!("{entity}_id"), json!({"type": "string", "description": format!("Id of the {entity}.")}));
    }
    for _ in 0..chance.next(5) {
        let (name, text) = COMMON[chance.next(COMMON.len())];
        properties.insert(name.to_owned(), json!({"type": "string", "description": text}));
    }
    json!({"type": "object", "properties": properties})
}

fn goal(spoken: &str, entity: &str, verb: &(&str, &str, [&str; 3]), chance: &mut Chance) -> String {
    let said = verb.2[chance.next(3)].replace("{}", &entity.replace('_', " "));
    match chance.next(5) {
        0 => format!("Please {said}."),
        1 => format!("In {spoken}, {said}, and tell me when it is done"),
        2 => format!("{said} ({spoken})"),
        _ => format!("Could you {said} in {spoken}? Thanks!"),
    }
}

/// Goals as people write them, over tools as they are known; each with what it should find.
pub(super) const KNOWN: [(&str, &str); 30] = [
    (
        "weather.get_forecast|Get the weather forecast for a city|city,days",
        "Will I need an umbrella in Hamburg tomorrow?",
    ),
    (
        "mail.send_message|Send an email to one or more recipients|to,subject,body",
        "write to bob@example.com that I am late",
    ),
    ("files.read_text|Read the contents of a file as text|path", "What is in notes.txt?"),
    ("files.write_text|Write text to a file|path,text", "Save the result to report.md"),
    ("files.list_directory|List files and directories|path", "which documents are in my downloads folder"),
    (
        "csv.aggregate|Groups rows and reduces columns: sum, mean, count|path,group_by,metrics",
        "average revenue per region from sales.csv",
    ),
    ("csv.query|Select rows of a CSV file|path,filter,columns", "rows of orders.csv where the amount is above 100"),
    (
        "text.summarise|Summarises a text by its most telling sentences|text,sentences",
        "give me a short abstract of this article",
    ),
    ("text.keywords|Finds the most frequent words of a text|text,limit", "what are the key terms here"),
    ("math.evaluate|Evaluates an arithmetic expression exactly|expression", "how much is 17 times 23"),
    ("fx.convert_currency|Convert an amount between currencies|amount,from,to", "how many dollars are 50 euros"),
    (
        "maps.directions|Get directions between two places|origin,destination,mode",
        "what is the quickest way from the station to the museum",
    ),
    (
        "maps.geocode|Convert an address into geographic coordinates|address",
        "latitude and longitude of 10 Downing Street",
    ),
    ("stocks.get_quote|Latest stock quote for a ticker symbol|symbol", "what is the share price of ACME"),
    (
        "flights.search_flights|Search for available flights|origin,destination,date",
        "I want to fly from Oslo to Rome on Friday",
    ),
    ("hotels.book_room|Book a hotel room|hotel,check_in,nights", "reserve two nights of accommodation in Vienna"),
    (
        "github.create_issue|Create a new issue in a repository|owner,repo,title,body",
        "file a bug about the crash at startup",
    ),
    ("github.merge_pull_request|Merge a pull request|owner,repo,number", "merge PR 42"),
    ("slack.post_message|Post a message to a channel|channel,text", "tell the #ops channel that the deploy is done"),
    (
        "calendar.create_event|Create a calendar event|title,start,end,attendees",
        "schedule a meeting with Ann for Tuesday at ten",
    ),
    ("todo.add_task|Add a task to a to-do list|title,due", "remind me to water the plants"),
    ("images.resize|Resize an image to a width and height|path,width,height", "make this photo 800 pixels wide"),
    ("pdf.extract_text|Extract the text of a PDF document|path", "get the words out of contract.pdf"),
    ("language.translate|Translate text into another language|text,target", "say good morning in Japanese"),
    (
        "web.fetch_page|Fetch a web page and return its content|url",
        "download https://example.com and show me what it says",
    ),
    ("sql.run_query|Run a SQL query against the database|query", "how many customers are in the database"),
    ("users.delete_account|Permanently delete a user account|user_id", "erase everything about this customer's login"),
    ("music.play_track|Play a song|title,artist", "put on some music by Miles Davis"),
    (
        "movies.showtimes|Showtimes of films at nearby cinemas|city,date",
        "when does the new movie run in the cinema tonight",
    ),
    (
        "recipes.find_by_ingredients|Find recipes by the ingredients at hand|ingredients",
        "what can I cook with eggs and spinach",
    ),
];

/// The tools of [`KNOWN`].
pub(super) fn known() -> (Vec<OfferedTool>, Vec<Case>) {
    let cases = KNOWN.iter().map(|(tool, goal)| {
        let mut parts = tool.split('|');
        let mut part = || parts.next().unwrap_or_default();
        let (name, summary, arguments): (ToolName, _, _) = (part().parse().unwrap(), part(), part());
        let properties: Map<String, Json> =
            arguments.split(',').map(|name| (name.to_owned(), json!({"type": "string"}))).collect();
        let tool = OfferedTool {
            name: name.clone(),
            summary: summary.to_owned(),
            effect: Effect::Read,
            input_schema: json!({"type": "object", "properties": properties}),
            output_schema: json!({}),
        };
        (tool, Case { goal: (*goal).to_owned(), tool: name })
    });
    cases.unzip()
}
