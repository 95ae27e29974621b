#include "edge/listener_tls.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "backend/backend_tls.h"
#include "base/log.h"
#include "support/tls_certs.h"
#include "support/vectors.h"

/* A folder with a certificate of each of two names, and what was logged. */
static struct cert_folder folder;
static struct cert mx, other;
static struct str log_path;

static int setup(void **state)
{
	struct err err;

	(void)state;
	cert_folder_open(&folder);
	mx = cert_make(&(struct cert_plan){ .subject = "mx", .names = "DNS:mx.test" });
	other = cert_make(&(struct cert_plan){ .subject = "other", .names = "DNS:other.test" });
	log_path = cert_path(&folder, "log");
	return log_open(log_path.p, LOG_FORMAT_JSON, LOG_DEBUG_LEVEL, "mx.example.net", &err);
}

static int teardown(void **state)
{
	struct err err;

	(void)state;
	log_open("stderr", LOG_FORMAT_JSON, LOG_INFO_LEVEL, "mx.example.net", &err);
	cert_free(&mx);
	cert_free(&other);
	cert_folder_close(&folder);
	return 0;
}

/* How many lines of the log have this text. */
static unsigned logged(const char *text)
{
	struct str all = vectors_read(log_path.p), rest = all;
	unsigned count = 0;

	while (rest.n > 0) {
		struct str line = str_cut(&rest, '\n');
		count += memmem(line.p, line.n, text, strlen(text)) != NULL;
	}
	free((void *)(uintptr_t)all.p);
	return count;
}

static struct tls_settings settings_of(int mode)
{
	struct tls_certificate pair = cert_write_pair(&folder, "mx", &mx, NULL);

	return (struct tls_settings){
		.mode = mode, .certificate = pair.certificate, .key = pair.key
	};
}

/* The slots of a listener "mx" and of a backend "mta". */
static int open_server(struct tls_slot *slot, const struct tls_settings *settings, struct err *err)
{
	static struct listener_settings listener;

	listener = (struct listener_settings){ .name = STR("mx"), .tls = *settings };
	return listener_tls_open(slot, &listener, err);
}

static int open_client(
	struct tls_slot *slot, const struct backend_tls_settings *settings, struct err *err)
{
	static struct backend_settings backend_settings;
	struct backend backend = { .settings = &backend_settings };

	backend_settings = (struct backend_settings){ .name = STR("mta"), .tls = *settings };
	int result = backend_tls_open(&backend, err);
	*slot = backend.tls;
	return result;
}

static void test_off(void **state)
{
	struct tls_settings settings = { .mode = TLS_MODE_OFF };
	struct backend_tls_settings client = { .mode = BACKEND_TLS_OFF };
	struct tls_slot slot;
	struct err err;

	(void)state;
	assert_int_equal(open_server(&slot, &settings, &err), 0);
	assert_null(slot.context);
	tls_slot_refresh(&slot, true);
	tls_slot_close(&slot);
	assert_int_equal(open_client(&slot, &client, &err), 0);
	assert_null(slot.context);
	tls_slot_refresh(&slot, true);
	tls_slot_close(&slot);
	assert_int_equal(logged("files_"), 0);
}

/* At the start files that cannot be used are an error, which names whose they are. */
static void test_broken_at_the_start(void **state)
{
	struct tls_settings settings = settings_of(TLS_MODE_IMPLICIT);
	struct backend_tls_settings client = { .mode = BACKEND_TLS_REQUIRED,
		.verify = TLS_VERIFY_CA,
		.ca = STR("/nonexistent/ca.pem") };
	struct tls_slot slot;
	struct err err;

	(void)state;
	cert_write_key(&folder, "mx.key", &other);
	assert_int_equal(open_server(&slot, &settings, &err), -1);
	assert_true(str_starts_with(str_from(err.text), STR("mx: tls: ")));
	assert_null(slot.context);
	tls_slot_close(&slot);
	assert_int_equal(open_client(&slot, &client, &err), -1);
	assert_true(str_starts_with(str_from(err.text), STR("mta: tls: ")));
	tls_slot_close(&slot);
}

static void test_nothing_changed(void **state)
{
	struct tls_settings settings = settings_of(TLS_MODE_STARTTLS);
	struct tls_slot slot;
	struct err err;

	(void)state;
	assert_int_equal(open_server(&slot, &settings, &err), 0);
	struct tls_context *before = slot.context;
	assert_non_null(before);
	tls_slot_refresh(&slot, false);
	assert_ptr_equal(slot.context, before);
	assert_int_equal(logged("files_"), 0);
	/* … unless it is asked for, as by HUP. */
	tls_slot_refresh(&slot, true);
	assert_int_equal(logged("\"event\":\"files_read\""), 1);
	tls_slot_close(&slot);
	assert_null(slot.context);
}

/* Sessions under way keep what they began with. */
static void test_files_that_change(void **state)
{
	struct tls_settings settings = settings_of(TLS_MODE_STARTTLS);
	struct tls_slot slot;
	struct err err;

	(void)state;
	assert_int_equal(open_server(&slot, &settings, &err), 0);
	struct tls_context *session = tls_context_keep(slot.context);
	cert_write_pair(&folder, "mx", &other, NULL);
	tls_slot_refresh(&slot, false);
	assert_ptr_not_equal(slot.context, session);
	assert_int_equal(logged("\"event\":\"files_read\""), 1);
	assert_int_equal(logged("\"name\":\"mx\",\"kind\":\"tls\""), 1);
	tls_slot_refresh(&slot, false);
	assert_int_equal(logged("files_"), 1);
	tls_context_release(&session);
	tls_slot_close(&slot);
}

/*
 * All or nothing: what is broken keeps what was there and is told once; so it is while a certificate
 * is there already and its key is not.
 */
static void test_broken_files_keep_the_old(void **state)
{
	struct tls_settings settings = settings_of(TLS_MODE_STARTTLS);
	struct tls_slot slot;
	struct err err;

	(void)state;
	assert_int_equal(open_server(&slot, &settings, &err), 0);
	struct tls_context *before = slot.context;
	cert_write_chain(&folder, "mx.pem", &other, NULL);
	for (int i = 0; i < 3; i++)
		tls_slot_refresh(&slot, false);
	assert_ptr_equal(slot.context, before);
	assert_int_equal(logged("\"event\":\"files_kept\""), 1);
	tls_slot_refresh(&slot, true);
	assert_int_equal(logged("\"event\":\"files_kept\""), 2);
	cert_write(&folder, "mx.pem", STR("no certificate\n"));
	tls_slot_refresh(&slot, false);
	unlink(settings.certificate.p);
	tls_slot_refresh(&slot, false);
	assert_ptr_equal(slot.context, before);
	assert_int_equal(logged("\"event\":\"files_kept\""), 4);
	assert_int_equal(logged("files_read"), 0);
	/* And then the rest comes. */
	cert_write_pair(&folder, "mx", &other, NULL);
	tls_slot_refresh(&slot, false);
	assert_ptr_not_equal(slot.context, before);
	assert_int_equal(logged("files_read"), 1);
	tls_slot_close(&slot);
}

/* Every file counts: further certificates, the CA of clients, and those of a backend. */
static void test_each_file_counts(void **state)
{
	struct tls_settings settings = settings_of(TLS_MODE_STARTTLS);
	struct tls_certificate more = cert_write_pair(&folder, "more", &other, NULL);
	struct backend_tls_settings backend = { .mode = BACKEND_TLS_REQUIRED,
		.verify = TLS_VERIFY_CA };
	struct tls_slot slot, client;
	struct err err;

	(void)state;
	settings.certificates = (struct conf_list){ &more, 1 };
	settings.client_ca = cert_write_chain(&folder, "ca.pem", &mx, NULL);
	backend.ca = cert_write_chain(&folder, "backend-ca.pem", &mx, NULL);
	assert_int_equal(open_server(&slot, &settings, &err), 0);
	assert_int_equal(open_client(&client, &backend, &err), 0);
	cert_write_pair(&folder, "more", &mx, NULL);
	tls_slot_refresh(&slot, false);
	assert_int_equal(logged("files_read"), 1);
	cert_write_chain(&folder, "ca.pem", &other, NULL);
	tls_slot_refresh(&slot, false);
	assert_int_equal(logged("files_read"), 2);
	tls_slot_refresh(&client, false);
	assert_int_equal(logged("files_read"), 2);
	cert_write_chain(&folder, "backend-ca.pem", &other, NULL);
	tls_slot_refresh(&client, false);
	assert_int_equal(logged("\"name\":\"mta\""), 1);
	tls_slot_close(&slot);
	tls_slot_close(&client);
}

/* Only the list of certificates, without the single one. */
static void test_certificates_alone(void **state)
{
	struct tls_certificate pair = cert_write_pair(&folder, "more", &other, NULL);
	struct tls_settings settings = { .mode = TLS_MODE_IMPLICIT, .certificates = { &pair, 1 } };
	struct tls_slot slot;
	struct err err;

	(void)state;
	assert_int_equal(open_server(&slot, &settings, &err), 0);
	assert_non_null(slot.context);
	tls_slot_close(&slot);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_off),
		TEST(test_broken_at_the_start),
		TEST(test_nothing_changed),
		TEST(test_files_that_change),
		TEST(test_broken_files_keep_the_old),
		TEST(test_each_file_counts),
		TEST(test_certificates_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
