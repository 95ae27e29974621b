/*
 * What the files of the dialogue with a server share: client.c knows what is under way and reads the
 * replies, client_command.c prints the commands.
 */
#ifndef SMTP_CLIENT_PRIV_H
#define SMTP_CLIENT_PRIV_H

#include "smtp/client.h"

/* A reply to `step` is due behind those that already are. */
void client_expect(struct smtp_client *client, enum smtp_client_step step);

/* EHLO or LHLO, and HELO, with client->hello. */
void client_send_hello(struct smtp_client *client, enum smtp_client_step step);

/* The next command for client->xclient_due, which is not 0. */
void client_send_xclient(struct smtp_client *client);

#endif
