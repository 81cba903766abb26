import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;

/** pgjdbc on the console, in both of its protocols and in a transaction. */
public class Drivers {
  public static void main(String[] arguments) throws Exception {
    for (String mode : new String[] {"extended", "simple"}) {
      String url = arguments[0] + "?preferQueryMode=" + mode;
      try (Connection connection = DriverManager.getConnection(url, arguments[1], arguments[2]);
          Statement statement = connection.createStatement()) {
        if (!connection.isValid(5)) {
          throw new IllegalStateException("not valid");
        }
        connection.setAutoCommit(false);
        try (ResultSet result = statement.executeQuery("SHOW VERSION")) {
          result.next();
          System.out.println("pgjdbc-" + mode + " " + result.getString(1));
        }
        connection.commit();
      }
    }
  }
}
