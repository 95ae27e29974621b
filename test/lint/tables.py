"""Rows of the table files are used, and what is said by code is in the tables."""
import re

from project import (C_TOKEN, Findings, calls, files, line_of, name, split_arguments, table_rows,
                     without_comments)

SOURCE = [(path, without_comments(path.read_text()))
          for path in files("src", "include", suffixes=(".c", ".h"))]

# A field is made by a call with its name in front: log_str("host", …), text_or_null("hello", …).
FIELD = re.compile(r'\w+\(\s*"([a-z_0-9]+)"')
HELPER = re.compile(r"^(?:static )?(?:inline )?struct log_field (\w+)\([^;{]*\)\s*\{(.*?)^\}",
                    re.MULTILINE | re.DOTALL)

# "550 5.7.1 …", "250-Ok", "5.7.1 …": the look of a reply.
REPLY_TEXT = re.compile(r'^"(?:[2345]\d\d[ -][A-Z0-9{]|[245]\.\d{1,3}\.\d{1,3} )')
# Looks like one, and is not said to anybody.
NO_REPLY = {
    "src/base/log_postfix.c": {'"550 5.0.0 refused"'},  # a record that has none
    "src/connection/connection_doc.c": None,            # examples of the reference page
}


def check_used(findings, table, macro, prefix):
    """Each row's constant stands somewhere in the source, by this prefix (a pattern)."""
    rows = list(table_rows(table, macro))
    everything = "\n".join(text for _, text in SOURCE)
    for row in rows:
        if not re.search(rf"\b(?:{prefix}){row[0]}\b", everything):
            findings.add(f"include/tables/{table}", f"{row[0]} is used nowhere")
    return len(rows)


def check_unique(findings, table, macro, column, what):
    seen = set()
    for row in table_rows(table, macro):
        if row[column] in seen:
            findings.add(f"include/tables/{table}", f"the {what} {row[column]} stands there twice")
        seen.add(row[column])


def helpers():
    """Functions that make a field: the names they give it."""
    found = {}
    for _, text in SOURCE:
        for match in HELPER.finditer(text):
            found[match[1]] = set(FIELD.findall(match[2]))
    return found


def used_fields(argument, helper_fields):
    names = set(FIELD.findall(argument))
    function = re.match(r"(\w+)\(", argument)
    if function and not names:
        names |= helper_fields.get(function[1], set())
    return names


def check_log_fields(findings):
    rows = {row[0]: set(row[3].split()) for row in table_rows("logevents.def", "LOGEVENT")}
    helper_fields, used = helpers(), {event: set() for event in rows}
    for path, text in SOURCE:
        for position, arguments in calls(text, "LOG"):
            event, *fields = split_arguments(arguments)
            if event not in rows:
                continue  # the macro itself
            for argument in fields:
                names = used_fields(argument, helper_fields)
                if not names:
                    findings.add(path, f"cannot tell the field's name: {argument}",
                                 line_of(text, position))
                for field in names - rows[event]:
                    findings.add(path, f"{event}: field {field} is not in logevents.def",
                                 line_of(text, position))
                used[event] |= names
    for event, listed in rows.items():
        for field in sorted(listed - used[event]):
            if used[event] or event not in WRITTEN_BY_THE_LOG:
                findings.add("include/tables/logevents.def", f"{event}: nobody gives {field}")
    return len(rows)


# Records that base/log.c makes of itself, not through LOG().
WRITTEN_BY_THE_LOG = {"LOG_DROPPED"}


def check_reply_text(findings):
    for path, text in SOURCE:
        for match in C_TOKEN.finditer(text):
            exempt = NO_REPLY.get(name(path), ())
            if REPLY_TEXT.match(match[0]) and exempt is not None and match[0] not in exempt:
                findings.add(path, f"a reply's text belongs into replies.def: {match[0]}",
                             line_of(text, match.start()))


def check_replies(findings):
    """RFC 2034 and 3463: the class of the enhanced code is that of the reply."""
    for row in table_rows("replies.def", "REPLY"):
        code, enhanced, text = row[1], row[2], row[3]
        if enhanced and enhanced[0] != code[0]:
            findings.add("include/tables/replies.def", f"{row[0]}: {code} with {enhanced}")
        if code == "421" and not text.startswith("{hostname}"):
            findings.add("include/tables/replies.def", f"{row[0]}: 421 begins with our name")
        if len(text) > 500 or not row[4]:
            findings.add("include/tables/replies.def", f"{row[0]}: text too long, or no remark")


def main():
    findings = Findings()
    rows = check_used(findings, "replies.def", "REPLY", "REPLY_")
    rows += check_used(findings, "endings.def", "ENDING", "ENDING_")
    rows += check_used(findings, "states.def", "SMTP_STATE", "SMTP_STATE_|STATE_BIT\\(")
    rows += check_used(findings, "logevents.def", "LOGEVENT", "LOG_|LOG\\(")
    check_unique(findings, "replies.def", "REPLY", 0, "id")
    check_unique(findings, "endings.def", "ENDING", 1, "word")
    check_unique(findings, "logevents.def", "LOGEVENT", 1, "word")
    check_unique(findings, "connection.def", "CONNECTION", 0, "name")
    check_log_fields(findings)
    check_reply_text(findings)
    check_replies(findings)
    findings.finish(rows, "rows")


main()
